//! Tests of the policy: what it must find, what it must leave alone, and what it must survive.

mod attacks;
mod cells;
mod idioms;
mod robust;

use super::*;

/// Rules that the default policy finds broken.
fn rules(code: &str) -> Vec<Rule> {
    let found = Policy::default().check(code);
    found.into_iter().map(|finding| finding.rule).collect()
}

fn allowing(modules: &[&str]) -> Policy {
    let modules = ALLOWED_MODULES.iter().chain(modules);
    Policy::new(Some(modules.map(ToString::to_string).collect()), None, None).unwrap()
}

fn list(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(ToString::to_string).collect())
}

#[test]
fn a_finding_tells_where_what_and_what_instead() {
    let found = Policy::default().check("x = 1\nß = (1, open('x'))\n");
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (finding.line, finding.column, finding.rule),
        (2, 9, Rule::Function)
    );
    assert_eq!(
        finding.to_string(),
        "2:9: The function `open` is not allowed. Read and write with pandas or numpy, such as pd.read_csv and df.to_csv."
    );
}

#[test]
fn a_syntax_error_is_one_finding_at_its_place() {
    let found = Policy::default().check("x = 1\nimport os\ny = = 2\nz = = 3\n");
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (finding.line, finding.column, finding.rule),
        (3, 5, Rule::Syntax)
    );
}

#[test]
fn places_in_the_body_of_a_cell_magic_are_those_of_the_cell() {
    let found = Policy::default().check("\n%%time\nx = 1\n  \ny = eval('1')\n");
    assert_eq!((found[0].line, found[0].column), (5, 5));
}

#[test]
fn lists_of_modules_allow_or_block_and_not_both() {
    let both = Policy::new(list(&["os"]), list(&["sys"]), None);
    assert_eq!(both.unwrap_err(), PolicyError::BothLists);
    let none = Policy::new(list(&[]), None, None).unwrap();
    assert_eq!(none.check("import pandas")[0].rule, Rule::Module);
    assert!(none.check("from __future__ import annotations").is_empty());
    let blocking = Policy::new(None, list(&["requests"]), None).unwrap();
    assert!(blocking.check("import os, json\nos.getcwd()").is_empty());
    assert_eq!(blocking.check("import requests")[0].rule, Rule::Module);
    assert_eq!(
        blocking.check("import os\nos.system('x')")[0].rule,
        Rule::Shell
    );
    let nothing = Policy::new(None, None, list(&[])).unwrap();
    assert!(nothing.check("open('x')").is_empty());
}

#[test]
fn a_module_that_is_allowed_by_name_may_do_what_it_is_for() {
    let policy = allowing(&["subprocess", "pickle", "os"]);
    assert!(
        policy
            .check("import subprocess\nsubprocess.run(['ls'])")
            .is_empty()
    );
    assert!(policy.check("import pickle\npickle.loads(x)").is_empty());
    assert!(policy.check("import os\nos.path.join('a', 'b')").is_empty());
    assert_eq!(
        policy.check("import os\nos.system('ls')")[0].rule,
        Rule::Shell
    );
    assert!(policy.check("pd.io.common.os.getcwd()").is_empty());
}

#[test]
fn attributes_by_text_are_followed_where_getattr_is_allowed() {
    let policy = Policy::new(list(&["os"]), None, list(&["eval"])).unwrap();
    assert_eq!(
        policy.check("import os\ngetattr(os, 'system')('x')")[0].rule,
        Rule::Shell
    );
    assert_eq!(
        policy.check("getattr(x, '__cl' + 'ass__')")[0].rule,
        Rule::Dunder
    );
    assert_eq!(policy.check("__import__('sys')")[0].rule, Rule::Module);
    assert_eq!(
        policy.check("k = 'sys'\n__import__(k)")[0].rule,
        Rule::Module
    );
    assert!(
        policy
            .check("getattr(row, 'name')\n__import__('os')")
            .is_empty()
    );
}

#[test]
fn risks_are_told_with_their_kind() {
    use RiskKind::*;
    for (code, kind) in [
        ("import os\nos.system('ls')", Shell),
        ("import subprocess as s\ns.run(['ls'])", Shell),
        ("!ls", Shell),
        ("%%bash\nls", Shell),
        ("get_ipython().system('ls')", Shell),
        ("from os import system as s\ns('ls')", Shell),
        ("%pip install pandas", PackageInstall),
        ("!pip install -q pandas", PackageInstall),
        (
            "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])",
            PackageInstall,
        ),
        ("import shutil\nshutil.rmtree('x')", FileDeletion),
        ("import os\nos.remove('x')", FileDeletion),
        ("from pathlib import Path\nPath('x').unlink()", FileDeletion),
        ("p.unlink(missing_ok=True)", FileDeletion),
        ("import requests\nrequests.get('https://x')", Network),
        ("from urllib.request import urlopen\nurlopen(url)", Network),
        ("import httpx as h\nh.get(u)", Network),
        ("import socket\nsocket.socket()", Network),
        ("pd.read_csv('https://example.com/x.csv')", Network),
        (
            "u = 'https://example.com'\ndf = pd.read_html(u + '/x')",
            Network,
        ),
        ("import seaborn as sns\nsns.load_dataset('iris')", Network),
        ("pd.io.common.urlopen(u)", Network),
        ("pd.io.common.os.remove('x')", FileDeletion),
        (
            "from sklearn.datasets import fetch_california_housing as f\nf()",
            Network,
        ),
        ("open('/etc/x', 'w')", WriteOutside),
        ("open('../x', mode='ab')", WriteOutside),
        ("df.to_csv('/abs/x.csv')", WriteOutside),
        ("df.to_csv(path_or_buf='~/x.csv')", WriteOutside),
        ("d = '/data'\ndf.to_parquet(f'{d}/x.parquet')", WriteOutside),
        (
            "from pathlib import Path\np = Path('/abs') / 'x'\np.write_text('y')",
            WriteOutside,
        ),
        ("Path.home().joinpath('x').write_text('y')", WriteOutside),
        ("(Path('a') / '/etc/x').open('w')", WriteOutside),
        ("import os\nos.makedirs('/abs/x')", WriteOutside),
        ("import shutil\nshutil.copy('x', '/abs')", WriteOutside),
        ("plt.savefig('/tmp/x.png')", WriteOutside),
        ("np.save('/tmp/x', a)", WriteOutside),
        ("%%writefile /etc/x\ny", WriteOutside),
    ] {
        let risks = risks(None, code);
        assert!(
            risks.iter().any(|risk| risk.kind == kind),
            "{code}: {risks:?}"
        );
    }
    let kinds = |code| -> Vec<RiskKind> {
        let risks = risks(Some(&Policy::default()), code);
        risks.into_iter().map(|risk| risk.kind).collect()
    };
    assert_eq!(kinds("np.os.remove('x')"), [FileDeletion, Finding]);
    let found = risks(Some(&Policy::default()), "x = 1\neval('1')");
    assert_eq!((found[0].line, found[0].kind), (2, Finding));
}

#[test]
fn ordinary_work_in_the_working_directory_is_no_risk() {
    for code in [
        "df = pd.read_csv('x.csv')\ndf.to_csv('out/y.csv')\nplt.savefig('z.png')",
        "with open('x.txt', 'w') as f:\n    f.write('/etc')",
        "open('/usr/share/dict/words')",
        "pd.read_csv('/data/x.csv')",
        "from pathlib import Path\nPath('out').mkdir(exist_ok=True)\nPath('x').write_text('y')",
        "import os\nos.path.join('/a', 'b')\nos.makedirs('out', exist_ok=True)",
        "platform.system()",
        "df.str.replace('/a', '/b')\ndf.rename(columns={'a': '/b'})",
        "print('https://example.com')",
        "import urllib.parse\nurllib.parse.quote('x')",
        "with pd.ExcelWriter('x.xlsx') as w:\n    df.to_excel(w, sheet_name='/x')",
    ] {
        assert_eq!(risks(None, code), [], "{code}");
    }
}

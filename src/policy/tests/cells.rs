//! Cells after one another in a kernel: what one names, the next has.

use super::*;

/// What is found in each of the cells.
fn cells(cells: &[&str]) -> Vec<Vec<Rule>> {
    let (policy, mut namespace) = (Policy::default(), Namespace::default());
    let check = |code: &&str| {
        let found = namespace.check(&policy, code);
        found.into_iter().map(|finding| finding.rule).collect()
    };
    cells.iter().map(check).collect()
}

#[test]
fn a_name_for_a_module_is_known_in_later_cells() {
    for (first, then, rule) in [
        (
            "m = pd.io.common",
            "o = m.os; o.spawnl(0, '/bin/sh')",
            Rule::Shell,
        ),
        (
            "m = pd.io.common",
            "q = m.os; q.execv('/bin/sh', [])",
            Rule::Shell,
        ),
        ("m = pd.io.common", "m.codecs.open('x')", Rule::Function),
        ("m = pd.io.common", "m.os.getpid()", Rule::Module),
        ("m = pd.io.common", "m.os", Rule::Module),
        ("m = pd.io.common", "m.os.getpid(); m = 1", Rule::Module),
        ("m = pd.io.common", "if x: m = 1\nm.os", Rule::Module),
        (
            "m = pd.io.common",
            "def f():\n    return m.os",
            Rule::Module,
        ),
        ("m = pd.io.common", "df.query('@m.os.x')", Rule::Module),
        ("%time m = pd.io.common", "m.os", Rule::Module),
        ("%%time\nm = pd.io.common", "m.os", Rule::Module),
        ("for m in a:\n    (m := pd.io.common)", "m.os", Rule::Module),
        (
            "def f():\n    global m\n    m = pd.io.common",
            "f()\nm.os",
            Rule::Module,
        ),
        ("import pandas.io.common as m", "m.os", Rule::Module),
        ("from pandas.io import common", "common.os", Rule::Module),
        ("load = pd.read_pickle", "r = load", Rule::Unpickle),
        ("l = np.load", "l('x', None, True)", Rule::Unpickle),
    ] {
        let found = cells(&[first, "1 / 0", then]);
        assert!(found[2].contains(&rule), "{first}\n{then}\n{found:?}");
    }
    assert_eq!(cells(&["m = pd.io.common"]), [[]; 1]);
}

#[test]
fn a_module_that_was_refused_is_refused_again_where_it_is_used() {
    for (first, then) in [
        ("import os", "os.remove('x')"),
        ("import os", "o = os; o.getpid()"),
        ("import os as o", "o.listdir('.')"),
        ("from os import remove as r", "r('x')"),
        ("import tarfile", "tarfile.open('x')"),
        ("import requests as r", "r.get(url)"),
    ] {
        let found = cells(&[first, then]);
        assert!(found[0].contains(&Rule::Module), "{first}: {found:?}");
        assert!(found[1].contains(&Rule::Module), "{then}: {found:?}");
    }
}

#[test]
fn names_that_a_cell_has_for_itself_are_its_own() {
    for (first, then) in [
        ("m = pd.io.common", "m = df\nm.os"),
        ("m = pd.io.common", "def f(m):\n    return m.os"),
        ("m = pd.io.common", "[m.os for m in rows]"),
        (
            "import requests",
            "requests = pd.read_csv('x.csv')\nrequests.head()",
        ),
        ("import re", "re.compile('x')"),
        ("f = np.mean\ncm = plt.cm", "f(x)\ncm.viridis(1)"),
        ("import numpy as np", "np.load('x.npy')"),
    ] {
        let found = cells(&[first, then]);
        assert!(found[1].is_empty(), "{first}\n{then}\n{found:?}");
    }
}

#[test]
fn the_risk_of_a_name_from_an_earlier_cell_is_told() {
    let mut namespace = Namespace::default();
    namespace.learn("import shutil as s");
    let risks = namespace.risks(None, "s.rmtree('x')");
    assert_eq!(risks[0].kind, RiskKind::FileDeletion);
}

#[test]
fn code_that_fills_the_memory_of_names_hides_none() {
    let (policy, mut namespace) = (Policy::default(), Namespace::default());
    for cell in 0..40 {
        let code: String = (0..1000)
            .map(|n| format!("name_{cell}_{n} = np.linalg.some_name_{n}.of_some_length\n"))
            .collect();
        assert!(namespace.check(&policy, &code).is_empty());
    }
    namespace.check(&policy, "m = pd.io.common");
    assert_eq!(namespace.check(&policy, "m.os.x")[0].rule, Rule::Module);
    let deletes = namespace.risks(None, "p.unlink()");
    assert_eq!(deletes[0].kind, RiskKind::FileDeletion);
    let circles = format!("m = pd.io.common{}", ".os.sys".repeat(10_000));
    namespace.check(&policy, &circles);
    assert!(namespace.check(&policy, "df.head()\nx.mean()").is_empty());
}

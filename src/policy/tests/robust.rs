//! No input makes the checks panic, overflow the stack, or take long.

use proptest::prelude::*;

use super::*;

fn survives(code: &str) {
    let findings = Policy::default().check(code);
    assert!(findings.len() <= MOST_TOLD);
    for finding in findings {
        assert!(finding.line >= 1 && finding.column >= 1);
        assert!(finding.message.len() < 2000 && !finding.message.contains('\n'));
    }
    assert!(risks(None, code).len() <= MOST_TOLD);
}

#[test]
fn deep_nesting_is_a_finding_or_checked_and_never_an_overflow() {
    for depth in [100, 1500, 1990, 3990, 100_000] {
        for (head, middle, tail) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{", "1", "}"),
            ("f(", "1", ")"),
            ("a[", "1", "]"),
            ("-", "1", ""),
            ("not ", "1", ""),
            ("lambda: ", "1", ""),
            ("lambda a, b: ", "1", ""),
            ("1 if 1 else ", "1", ""),
            ("1+", "1", ""),
            ("1**", "1", ""),
            ("await ", "x", ""),
            ("x", "", ".y"),
            ("x", "", "()"),
            ("x", "", "[0]"),
            ("f'{", "1", "}'"),
            ("getattr(", "x", ", 'a')"),
            ("str(", "'/x'", ")"),
            ("'a'+", "'b'", ""),
            ("(x:=", "1", ")"),
            ("async ", "x", ""),
            ("[", "i", " for i in a]"),
            ("if x:", "1", ""),
            ("open(", "1", ",'w')"),
            ("x['a'+", "1", "]"),
        ] {
            survives(&format!(
                "{}{middle}{}",
                head.repeat(depth),
                tail.repeat(depth)
            ));
        }
    }
    let blocks: String = (0..900)
        .map(|i| format!("{}if x:\n", " ".repeat(i)))
        .collect();
    survives(&format!("{blocks}{}eval('1')", " ".repeat(900)));
    let unclosed: String = (0..900)
        .map(|i| format!("{}if f(x,\n", " ".repeat(i)))
        .collect();
    survives(&unclosed);
    let functions: String = (0..90)
        .map(|i| format!("{}def f(x, y=[z for z in x]):\n", " ".repeat(i)))
        .collect();
    survives(&format!("{functions}{}x", " ".repeat(90)));
}

#[test]
fn long_code_of_many_findings_is_cut() {
    assert_eq!(
        Policy::default().check(&"eval('1')\n".repeat(5000)).len(),
        MOST_TOLD
    );
    assert_eq!(rules(&" ".repeat(2 << 20)), [Rule::Syntax]);
    survives(&format!("x = [{}]", "1, ".repeat(200_000)));
    survives(&"x=1;".repeat(100_000));
    survives(&format!("import {}", "a.".repeat(100_000)));
    survives(&format!("df.query('{}')", "`".repeat(100_000)));
}

/// Pieces that mean something to the checks, to be put together at random.
const PIECES: &[&str] = &[
    "import os",
    "\n",
    "    ",
    "eval",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "'''",
    "f'",
    "%",
    "%%",
    "!",
    "?",
    "%%time",
    "%time ",
    "lambda",
    ":",
    ":=",
    "=",
    "@",
    "x",
    ".y",
    ".__class__",
    "def f(",
    "class A",
    "global x",
    "del x",
    "for x in ",
    "if ",
    "else",
    "match x:",
    "case ",
    "as ",
    "with ",
    "\\\n",
    "\r",
    "\x0c",
    "\u{2028}",
    "é",
    "🎉",
    "#",
    ",",
    ";",
    "*",
    "**",
    "df.query(",
    "'{0.__class__}'",
    ".format(",
    "open(",
    "'w'",
    "'/x'",
    "/",
    "get_ipython()",
    ".system(",
    "pip install ",
    "\0",
    "\u{feff}",
    "async ",
    "await ",
    "type X = ",
    "from . import ",
    "getattr(",
    "pd.io.common.os",
    "nonlocal x",
    "return ",
    "yield ",
    "except* ",
    "try:",
    "`",
    "->",
    "...",
    "0x",
    "1e",
    "\t",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_text_panics(code in "(\\PC|[\\n\\r\\t\\x0c])*") {
        survives(&code);
    }

    #[test]
    fn no_pieces_of_python_panic(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)) {
        survives(&pieces.concat());
        survives(&pieces.join(" "));
    }

    #[test]
    fn no_damaged_code_panics(at in 0.0..1.0f64, with in proptest::sample::select(PIECES), cut in 0usize..20) {
        let code = include_str!("../../../config/demo/task3_page.py");
        let at = code.floor_char_boundary((at * code.len() as f64) as usize);
        let end = code.ceil_char_boundary((at + cut).min(code.len()));
        survives(&format!("{}{with}{}", &code[..at], &code[end..]));
    }
}

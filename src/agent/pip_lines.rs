//! Lines of a cell that call pip, as `%pip install` and `!pip install` do.

/// What a cell asks pip for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PipLines {
    /// The words after `install` that are no options, in order.
    pub wishes: Vec<String>,
    /// A word that Heddle does not act on, and so leaves the whole undone.
    pub refused: Option<String>,
    /// The cell without these lines.
    pub rest: String,
}

/// Ways to call pip from a cell. The bare word is IPython's automatic magic, and no Python.
const CALLS: &[&str] = &[
    "pip",
    "pip3",
    "python -m pip",
    "python3 -m pip",
    "{sys.executable} -m pip",
    "uv pip",
];

/// Options that change nothing about what is asked for.
const HARMLESS: &[&str] = &[
    "-q",
    "-qq",
    "-qqq",
    "--quiet",
    "-U",
    "--upgrade",
    "--user",
    "--no-input",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--break-system-packages",
];

/// The calls of pip in a cell; `None` where there are none.
pub(super) fn find(code: &str) -> Option<PipLines> {
    let mut found = PipLines::default();
    let mut any = false;
    let mut quoted: Option<&str> = None;
    for line in code.split_inclusive('\n') {
        match arguments(line).filter(|_| quoted.is_none()) {
            Some(arguments) => {
                any = true;
                found.take(arguments);
                let indent = &line[..line.len() - line.trim_start().len()];
                let end = if line.ends_with('\n') { "\n" } else { "" };
                // A block must not lose its only line.
                found.rest.push_str(&format!(
                    "{indent}pass  # was: {}{end}",
                    line.trim().trim_start_matches(['%', '!'])
                ));
            }
            None => found.rest.push_str(line),
        }
        quoted = after(line, quoted);
    }
    any.then_some(found)
}

impl PipLines {
    fn take(&mut self, arguments: &str) {
        for word in arguments.split_whitespace() {
            let word = word.trim_matches(['"', '\'']);
            if word.starts_with('#') {
                return;
            }
            if HARMLESS.contains(&word) {
                continue;
            }
            if word.starts_with('-')
                || word.contains(['|', '&', ';', '>', '$', '{', '`']) && !word.contains(['=', '~'])
            {
                self.refused.get_or_insert_with(|| word.to_owned());
                continue;
            }
            self.wishes.push(word.to_owned());
        }
    }
}

/// What stands after `install` in a line that calls pip.
fn arguments(line: &str) -> Option<&str> {
    let line = line.trim();
    let command = line.strip_prefix(['%', '!']).unwrap_or(line).trim_start();
    CALLS.iter().find_map(|call| {
        let rest = command.strip_prefix(call)?.strip_prefix(' ')?.trim_start();
        let rest = rest.strip_prefix("install")?;
        (rest.is_empty() || rest.starts_with(' ')).then_some(rest)
    })
}

/// Which kind of long string is open after a line.
fn after<'a>(line: &str, open: Option<&'a str>) -> Option<&'a str> {
    let mut open = open;
    let mut rest = line;
    loop {
        let next = match open {
            Some(mark) => rest.find(mark).map(|at| (at, mark)),
            None => ["\"\"\"", "'''"]
                .into_iter()
                .filter_map(|mark| rest.find(mark).map(|at| (at, mark)))
                .min(),
        };
        let Some((at, mark)) = next else { return open };
        open = match open {
            Some(_) => None,
            None => Some(mark),
        };
        rest = &rest[at + mark.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(code: &str) -> Vec<String> {
        find(code).map(|found| found.wishes).unwrap_or_default()
    }

    #[test]
    fn every_way_to_call_pip_is_seen() {
        for code in [
            "%pip install six",
            "!pip install six",
            "! pip3 install  --quiet six",
            "pip install six",
            "!python -m pip install -U six",
            "!{sys.executable} -m pip install -q six",
            "import os\n  %pip install 'six'  # for later\n",
        ] {
            assert_eq!(wishes(code), ["six"], "{code}");
        }
        assert_eq!(wishes("%pip install \"a>=1\" b[c]"), ["a>=1", "b[c]"]);
    }

    #[test]
    fn other_code_is_left_alone() {
        for code in [
            "import pip",
            "pip = 3",
            "%pip list",
            "print('%pip install six')",
            "text = '''\n%pip install six\n'''",
            "!pip installer six",
        ] {
            assert_eq!(find(code), None, "{code}");
        }
    }

    #[test]
    fn what_is_left_is_python_with_the_same_lines() {
        let found =
            find("try:\n    import six\nexcept ImportError:\n    %pip install six\nx = 1").unwrap();
        assert_eq!(
            found.rest,
            "try:\n    import six\nexcept ImportError:\n    pass  # was: pip install six\nx = 1"
        );
    }

    #[test]
    fn options_that_lead_elsewhere_and_shells_are_refused() {
        for code in [
            "%pip install -r requirements.txt",
            "%pip install --index-url http://example.org six",
            "!pip install six && rm -rf x",
            "!pip install six > /dev/null",
            "!pip install $(cat x)",
        ] {
            assert!(find(code).unwrap().refused.is_some(), "{code}");
        }
    }
}

//! Lines that are for IPython and not for Python: magics, `!` commands, and which of them do no harm.

/// What such a line, or a whole cell, amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    Harmless,
    /// Installs packages by their names, and does nothing else.
    Install,
    /// Runs this Python.
    Code(&'a str),
    /// A command for the shell.
    Shell,
    /// Any other magic; its name.
    Magic(&'a str),
}

/// A cell that a magic takes as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CellMagic<'a> {
    /// Where it starts, in bytes.
    pub at: usize,
    pub name: &'a str,
    /// The rest of its line.
    pub line: &'a str,
    pub body: &'a str,
    /// Where the body starts, in bytes.
    pub body_at: usize,
}

/// The cell magic of a cell. Blank lines and indentation before it do not count, as in IPython.
pub(super) fn cell_magic(code: &str) -> Option<CellMagic<'_>> {
    let text = code.trim_start();
    let at = code.len() - text.len();
    let rest = text.strip_prefix("%%")?;
    // Lines as Python's splitlines knows them, which IPython goes by.
    let end = rest.find(|c| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    });
    let (first, body) = rest.split_at(end.unwrap_or(rest.len()));
    let (name, line) = word(first);
    Some(CellMagic {
        at,
        name,
        line,
        body,
        body_at: code.len() - body.len(),
    })
}

impl<'a> CellMagic<'a> {
    /// Whether the body is Python of the kernel's; else the magic is what it is.
    pub(super) fn runs_body(&self) -> bool {
        matches!(self.name, "time" | "timeit" | "capture")
    }

    /// Code on the magic's own line.
    pub(super) fn code(&self) -> &'a str {
        match self.name {
            "time" | "timeit" => without_options(self.line),
            _ => "",
        }
    }
}

/// A line after its `!` or `!!`.
pub(super) fn shell(line: &str) -> Verdict<'_> {
    match is_install(line) {
        true => Verdict::Install,
        false => Verdict::Shell,
    }
}

/// A line after its `%`.
pub(super) fn magic(line: &str) -> Verdict<'_> {
    let (name, rest) = word(line);
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._-".contains(c);
    match name {
        "pip" | "conda" | "mamba" | "micromamba" | "uv" if is_install(line) => Verdict::Install,
        "time" | "timeit" => Verdict::Code(without_options(rest)),
        "matplotlib" | "precision" | "who" | "whos" | "xmode" if rest.chars().all(plain) => {
            Verdict::Harmless
        }
        "config" if sets_a_figure_option(rest) => Verdict::Harmless,
        "sx" | "system" | "sc" | "pip" | "conda" | "mamba" | "micromamba" | "uv" => Verdict::Shell,
        name if is_alias(name) => Verdict::Shell,
        name => Verdict::Magic(name),
    }
}

/// The name of the shell command or magic that a cell of a single line is without any sign of it. IPython takes a
/// first word that is the name of a magic for the magic, even where the line would be Python: `ls -la`, `sx (reboot)`.
pub(super) fn without_sign(code: &str) -> Option<&str> {
    let line = code.trim();
    if line.contains(['\n', '\r']) {
        return None;
    }
    let end = line.find(|c: char| !(c == '_' || c.is_alphanumeric()));
    let (name, rest) = line.split_at(end?);
    let bare = rest.trim_start();
    // `ls -la` and `cat /etc/passwd`; a formula has its spaces on both sides.
    let spaced = rest.starts_with([' ', '\t']);
    let argument = bare
        .strip_prefix(['-', '/', '~'])
        .is_some_and(|it| it.starts_with(char::is_alphabetic));
    let assigned = bare.is_empty() || bare.starts_with(['=', ',', '.', '[', ')', ']', ':']);
    let magic = matches!(name, "sx" | "system" | "sc") && !assigned;
    (magic || (is_alias(name) && spaced && argument)).then_some(name)
}

/// Commands of the shell that IPython has as magics.
fn is_alias(name: &str) -> bool {
    matches!(
        name,
        "cat"
            | "cp"
            | "ldir"
            | "less"
            | "lf"
            | "lk"
            | "ll"
            | "ln"
            | "ls"
            | "lx"
            | "man"
            | "mkdir"
            | "more"
            | "mv"
            | "rm"
            | "rmdir"
    )
}

/// The first word, and what follows without the space between.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Code behind options such as `-n 10`.
fn without_options(mut text: &str) -> &str {
    loop {
        let (first, rest) = word(text);
        let option = first
            .strip_prefix('-')
            .is_some_and(|it| it.trim_start_matches('-').starts_with(char::is_alphabetic));
        if !option {
            return text.trim();
        }
        let (value, behind) = word(rest);
        let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        text = if number { behind } else { rest };
    }
}

/// `InlineBackend.figure_format = 'retina'`: the right side is run as code, so it must be a plain value.
fn sets_a_figure_option(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let name = name
        .trim()
        .strip_prefix("InlineBackend.")
        .unwrap_or_default();
    let named = !name.is_empty() && name.bytes().all(|b| b == b'_' || b.is_ascii_alphabetic());
    named
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " '\"._-[],".contains(c))
}

/// Whether the whole line installs packages by name. Anything that a shell, or IPython in its `{…}` and `$…`, could
/// make more of it is not among the characters that are let through.
fn is_install(line: &str) -> bool {
    if line.contains(['\n', '\r']) {
        return false;
    }
    let line = line.split(" #").next().unwrap_or_default().trim();
    let line = line
        .strip_prefix("{sys.executable}")
        .map_or_else(|| line.to_owned(), |rest| format!("python{rest}"));
    let Some(words) = words(&line) else {
        return false;
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let arguments = match words.as_slice() {
        [
            "python" | "python3",
            "-m",
            "pip" | "pip3",
            "install",
            rest @ ..,
        ]
        | ["pip" | "pip3", "install", rest @ ..]
        | ["uv", "pip", "install", rest @ ..]
        | ["conda" | "mamba" | "micromamba", "install", rest @ ..] => rest,
        _ => return false,
    };
    let (mut packages, mut arguments) = (0, arguments.iter());
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (*argument, None),
        };
        let mut value_of = || {
            value
                .or_else(|| arguments.next().copied())
                .unwrap_or_default()
        };
        let fine = match option {
            "-i" | "--index-url" | "--extra-index-url" => is_address(value_of()),
            "--trusted-host" | "-c" | "--channel" => is_plain(value_of()),
            "-q"
            | "-qq"
            | "-U"
            | "-y"
            | "-qU"
            | "-Uq"
            | "--quiet"
            | "--upgrade"
            | "--yes"
            | "--user"
            | "--pre"
            | "--no-deps"
            | "--no-cache-dir"
            | "--no-input"
            | "--force-reinstall"
            | "--prefer-binary"
            | "--system"
            | "--disable-pip-version-check"
            | "--break-system-packages" => value.is_none(),
            _ => {
                packages += 1;
                is_requirement(argument)
            }
        };
        if !fine {
            return false;
        }
    }
    packages > 0
}

/// The words of a command without anything that the shell takes for itself. `<` and `>` only in quotes.
fn words(line: &str) -> Option<Vec<String>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-[],=!~:/".contains(c);
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(mark) if c == mark => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c == ' ' || c == '\t' => words.extend(word.take()),
            Some(_) if plain(c) || " <>".contains(c) => word.get_or_insert_default().push(c),
            None if plain(c) => word.get_or_insert_default().push(c),
            _ => return None,
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// A package's name with extras and versions; no path, no address, no file.
fn is_requirement(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains(['/', ':'])
        && ![".whl", ".zip", ".gz", ".bz2", ".tar", ".txt"]
            .iter()
            .any(|end| lower.ends_with(end))
}

fn is_address(text: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| {
        text.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    })
}

fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_is_an_install_as_a_whole_is_one() {
        for line in [
            "pip install pandas",
            "pip3 install -q -U 'pandas>=2,<3' scikit-learn==1.5.0",
            "pip install \"xgboost[plotting]\" --quiet  # for the model",
            "python -m pip install openpyxl",
            "{sys.executable} -m pip install openpyxl",
            "pip install -i https://mirror.example/simple polars",
            "pip install --index-url=https://mirror.example/simple polars",
            "conda install -y -c conda-forge geopandas",
            "uv pip install --system polars",
        ] {
            assert_eq!(shell(line), Verdict::Install, "{line}");
        }
        for line in [
            "pip install x; cat y",
            "pip install x && curl evil",
            "pip install x | sh",
            "pip install x & reboot",
            "pip install $(cat /etc/passwd)",
            "pip install `id`",
            "pip install {open('/etc/passwd').read()}",
            "pip install $HOME",
            "pip install x > /etc/passwd",
            "pip install pandas>2",
            "pip install 'x' '$(id)'",
            "pip install \"$(id)\"",
            "pip install 'x",
            "pip install x \\\n rm",
            "pip install git+https://example.com/evil",
            "pip install https://example.com/evil.whl",
            "pip install ./evil",
            "pip install /tmp/evil",
            "pip install evil.whl",
            "pip install -e .",
            "pip install -r requirements.txt",
            "pip install --target=/etc x",
            "pip install --global-option=x y",
            "pip install",
            "pip uninstall x",
            "pip list",
            "pip",
            "",
            "ls",
            "{sys.executable} -c pip install x",
            "python -c 'import os'",
            "sudo pip install x",
            "pip install x # y\nrm",
        ] {
            assert_eq!(shell(line), Verdict::Shell, "{line}");
        }
    }

    #[test]
    fn magics_are_harmless_code_or_named() {
        assert_eq!(magic("matplotlib inline"), Verdict::Harmless);
        assert_eq!(
            magic("config InlineBackend.figure_format = 'retina'"),
            Verdict::Harmless
        );
        assert_eq!(magic("timeit -n 10 -r3 f(x)"), Verdict::Code("f(x)"));
        assert_eq!(magic("time -x"), Verdict::Code(""));
        assert_eq!(magic("pip install pandas"), Verdict::Install);
        assert_eq!(magic("pip install pandas; id"), Verdict::Shell);
        assert_eq!(magic("sx ls"), Verdict::Shell);
        for (line, name) in [
            ("matplotlib {evil()}", "matplotlib"),
            ("config InlineBackend.rc = f()", "config"),
            ("config Application.x = 1", "config"),
            ("run x.py", "run"),
            ("load_ext autoreload", "load_ext"),
            ("", ""),
        ] {
            assert_eq!(magic(line), Verdict::Magic(name), "{line}");
        }
    }

    #[test]
    fn a_cell_magic_is_seen_behind_blank_lines_and_indentation() {
        let magic = cell_magic("\n \x0c\n  %%bash -x\nls\n").unwrap();
        assert_eq!(
            (magic.name, magic.line, magic.body),
            ("bash", "-x", "\nls\n")
        );
        assert_eq!(
            cell_magic("%%time\u{2028}!ls").map(|it| it.body),
            Some("\u{2028}!ls")
        );
        assert_eq!(cell_magic("%%").map(|it| it.name), Some(""));
        assert_eq!(cell_magic("x = 1\n%%bash\nls"), None);
    }

    #[test]
    fn a_command_without_its_sign_is_one_only_on_a_single_line() {
        for line in [
            "ls -la",
            "rm -rf",
            "cat /etc/passwd",
            "sx (reboot)",
            "system (id)",
            "\n sx ls\n",
        ] {
            assert!(without_sign(line).is_some(), "{line}");
        }
        for line in [
            "ls",
            "ls - la",
            "ln(2)",
            "cp = 1",
            "sx = 3",
            "system",
            "sx.x",
            "ls -la\nx",
            "rm[-x]",
            "x -la",
            "",
        ] {
            assert_eq!(without_sign(line), None, "{line}");
        }
    }
}

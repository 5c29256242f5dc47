//! The lock file: every package of the overlay with its version and hash, in the form that pip reads.

use super::requirement::{is_name, is_version, normalized};

/// A package that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Normalized.
    pub name: String,
    /// Extras that were asked for.
    pub extras: Vec<String>,
    pub version: String,
    /// SHA-256 of the wheel, in hexadecimal; `None` where the index gave none.
    pub sha256: Option<String>,
    /// Whether somebody asked for it by name. Others are here because those need them.
    pub asked: bool,
}

const HEAD: &str =
    "# Packages for the kernels of this project. Written by: heddle env add, heddle env remove\n";
const ASKED: &str = "  # asked for";

impl Pin {
    /// As a root of what is needed: the name with its extras.
    pub(super) fn root(&self) -> String {
        match self.extras.is_empty() {
            true => self.name.clone(),
            false => format!("{}[{}]", self.name, self.extras.join(",")),
        }
    }
}

pub(super) fn written(pins: &[Pin]) -> String {
    HEAD.to_owned() + &lines(pins)
}

/// One for each pin.
pub(super) fn lines(pins: &[Pin]) -> String {
    let lines = pins.iter().map(|pin| {
        let hash = pin.sha256.as_ref();
        let hash = hash.map_or_else(String::new, |hash| format!(" --hash=sha256:{hash}"));
        let asked = if pin.asked { ASKED } else { "" };
        format!("{}=={}{hash}{asked}\n", pin.root(), pin.version)
    });
    lines.collect()
}

/// Reads what [`written`] wrote, and nothing else: pip is told what stands here, and a proposal may have been changed by
/// whoever can write in the project.
///
/// # Errors
/// The first line that is none of ours.
pub(super) fn read(text: &str) -> Result<Vec<Pin>, String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| pin(line).ok_or_else(|| line.chars().take(100).collect()))
        .collect()
}

fn pin(line: &str) -> Option<Pin> {
    let (line, asked) = match line.strip_suffix(ASKED) {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (line, sha256) = match line.split_once(" --hash=sha256:") {
        Some((line, hash)) => (line, Some(hash)),
        None => (line, None),
    };
    let (root, version) = line.split_once("==")?;
    let (name, extras) = match root.split_once('[') {
        Some((name, extras)) => (name, extras.strip_suffix(']')?.split(',').collect()),
        None => (root, Vec::new()),
    };
    let plain = is_name(name)
        && normalized(name) == name
        && extras.iter().all(|extra| is_name(extra))
        && is_version(version)
        && sha256.is_none_or(is_hash);
    plain.then(|| Pin {
        name: name.to_owned(),
        extras: extras.into_iter().map(str::to_owned).collect(),
        version: version.to_owned(),
        sha256: sha256.map(str::to_owned),
        asked,
    })
}

pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins() -> Vec<Pin> {
        let pin = |name: &str, extras: &[&str], asked: bool| Pin {
            name: name.into(),
            extras: extras.iter().map(|extra| (*extra).to_owned()).collect(),
            version: "1.0+cpu".into(),
            sha256: (!asked).then(|| "0a".repeat(32)),
            asked,
        };
        vec![pin("six", &[], false), pin("uvicorn", &["standard"], true)]
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written(&pins())), Ok(pins()));
        assert_eq!(read(&written(&[])), Ok(Vec::new()));
    }

    #[test]
    fn a_line_that_pip_would_take_for_more_than_a_name_is_no_line_of_ours() {
        for line in [
            "--index-url http://example.org",
            "-e .",
            "six",
            "six==1.0 --global-option=x",
            "six==1.0 --hash=sha256:00",
            "six @ file:///tmp/six.whl",
            "six==1.0; python_version > '3'",
            "six[==1",
        ] {
            assert_eq!(read(line), Err(line.to_owned()));
        }
    }
}

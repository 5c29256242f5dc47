//! What may be asked for: plain names of packages, with extras and versions, and nothing that leads elsewhere.

use std::fmt;

use super::PackagesError;

/// Longest name, and longest text of versions, in characters.
const LONGEST: usize = 100;

/// A package by name, such as `pandas`, `uvicorn[standard]` or `scipy>=1.11,<2`.
///
/// Source: "Names and normalization" and "Version specifiers" of the Python packaging specifications; addresses and
/// markers, which those allow, are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    name: String,
    extras: Vec<String>,
    versions: String,
}

impl Requirement {
    /// # Errors
    /// [`PackagesError::NotPlain`] for options, addresses, paths, markers and everything else.
    pub fn parse(text: &str) -> Result<Requirement, PackagesError> {
        parse(text.trim()).ok_or_else(|| PackagesError::NotPlain {
            text: text.chars().take(LONGEST).collect(),
        })
    }

    /// The name as the index and the lock file write it.
    pub fn key(&self) -> String {
        normalized(&self.name)
    }

    pub(super) fn extras(&self) -> &[String] {
        &self.extras
    }

    /// Whether any version will do.
    pub(super) fn is_open(&self) -> bool {
        self.versions.is_empty() && self.extras.is_empty()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.extras.is_empty() {
            write!(f, "[{}]", self.extras.join(","))?;
        }
        f.write_str(&self.versions)
    }
}

/// `Some_Name` and `some.name` are one package: `some-name`.
pub(super) fn normalized(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if key.ends_with('-') => {}
            '-' | '_' | '.' => key.push('-'),
            other => key.extend(other.to_lowercase()),
        }
    }
    key
}

fn parse(text: &str) -> Option<Requirement> {
    let end = text.find(|c: char| !is_name_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let (extras, versions) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let extras = match extras.trim() {
        "" => Vec::new(),
        extras => extras
            .split(',')
            .map(|extra| extra.trim().to_owned())
            .collect(),
    };
    let versions: String = versions.chars().filter(|c| *c != ' ').collect();
    let plain = is_name(name)
        && extras.iter().all(|extra| is_name(extra))
        && versions.len() <= LONGEST
        && (versions.is_empty() || versions.split(',').all(is_comparison));
    plain.then(|| Requirement {
        name: name.to_owned(),
        extras,
        versions,
    })
}

fn is_name_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

pub(super) fn is_name(text: &str) -> bool {
    let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    ends && text.len() <= LONGEST && text.chars().all(is_name_part)
}

/// A version as it stands in a file name of the index.
pub(super) fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= LONGEST
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '!' | '-' | '_'))
}

fn is_comparison(text: &str) -> bool {
    ["==", ">=", "<=", "~=", "!=", ">", "<"]
        .iter()
        .find_map(|operator| text.strip_prefix(operator))
        .is_some_and(|version| is_version(version.strip_suffix(".*").unwrap_or(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_extras_and_versions_are_taken() {
        for (text, shown) in [
            ("pandas", "pandas"),
            ("  scikit-learn ", "scikit-learn"),
            ("uvicorn[standard, x]", "uvicorn[standard,x]"),
            ("scipy >= 1.11, < 2", "scipy>=1.11,<2"),
            ("torch==2.1.*", "torch==2.1.*"),
            ("a", "a"),
        ] {
            assert_eq!(Requirement::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(
            Requirement::parse("Ruamel.__Yaml").unwrap().key(),
            "ruamel-yaml"
        );
    }

    #[test]
    fn whatever_leads_elsewhere_is_refused() {
        for text in [
            "",
            "-r requirements.txt",
            "--index-url=http://x",
            "git+https://example.org/x",
            "x @ https://example.org/x.whl",
            "./folder",
            "/tmp/x.whl",
            "../x",
            "x;python_version>'3'",
            "x\nsix",
            "x six",
            "x[",
            "x[a]b",
            "x==",
            "x==1;",
            "x==1 --hash=sha256:00",
            "名字",
            "$(id)",
            ".x",
            "x-",
        ] {
            let refused = Requirement::parse(text);
            assert!(refused.is_err(), "{text:?}: {refused:?}");
        }
        assert!(Requirement::parse(&"x".repeat(10_000)).is_err());
    }
}

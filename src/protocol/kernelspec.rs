//! `kernel.json`: how a kernel is started. Its fields and names; finding the file is not done here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::content::lenient;
use super::{ProtocolError, json};

/// A `kernel.json` (jupyter_client: Kernel specs). A missing field is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelSpec {
    /// The command, with `{connection_file}` and `{resource_dir}` to be replaced.
    pub argv: Vec<String>,
    #[serde(deserialize_with = "lenient::text")]
    pub display_name: String,
    #[serde(deserialize_with = "lenient::text")]
    pub language: String,
    /// Added to the kernel's environment; `${VAR}` is to be expanded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    pub interrupt_mode: InterruptMode,
    #[serde(
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "lenient::object"
    )]
    pub metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_protocol_version: Option<String>,
}

/// How a kernel wants to be interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterruptMode {
    /// SIGINT to its process group.
    #[default]
    Signal,
    /// An `interrupt_request` on control.
    Message,
}

impl KernelSpec {
    /// Reads a `kernel.json`.
    ///
    /// # Errors
    /// [`ProtocolError::KernelSpec`] with the line and the column.
    pub fn from_json(file: &[u8]) -> Result<KernelSpec, ProtocolError> {
        json::from_strict(file).map_err(ProtocolError::KernelSpec)
    }

    /// `argv` for one start. What is put in is not looked at again.
    pub fn command(&self, connection_file: &str, resource_dir: &str) -> Vec<String> {
        let fill = |argument: &String| {
            substitute(argument, "{", |name| match name {
                "connection_file" => Some(connection_file.to_owned()),
                "resource_dir" => Some(resource_dir.to_owned()),
                _ => None,
            })
        };
        self.argv.iter().map(fill).collect()
    }

    /// `env` with each `${VAR}` replaced by what `lookup` gives; where it gives nothing, left as written.
    pub fn expand_env(&self, lookup: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
        self.env
            .iter()
            .map(|(name, value)| (name.clone(), substitute(value, "${", &lookup)))
            .collect()
    }
}

/// Whether `name` can name a kernelspec: `[a-z0-9._-]+`, in either case. Names that differ in case alone
/// are the same kernel.
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// Replaces `open name }` by what `lookup` gives for the name, in one pass.
fn substitute(text: &str, open: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(open) {
        let name_at = at + open.len();
        let name = rest[name_at..].split_once('}').map(|(name, _)| name);
        match name.and_then(|name| Some((name.len(), lookup(name)?))) {
            Some((length, value)) => {
                out.push_str(&rest[..at]);
                out.push_str(&value);
                rest = &rest[name_at + length + 1..];
            }
            None => {
                out.push_str(&rest[..name_at]);
                rest = &rest[name_at..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_with_its_defaults() {
        let spec = KernelSpec::from_json(
            br#"{"argv": ["python3"], "display_name": "P", "metadata": {"debugger": true}, "new": 1}"#,
        )
        .unwrap();
        assert_eq!(spec.interrupt_mode, InterruptMode::Signal);
        assert_eq!(spec.language, "");
        let spec = KernelSpec::from_json(br#"{"interrupt_mode": "message"}"#).unwrap();
        assert_eq!(spec.interrupt_mode, InterruptMode::Message);
        let error = KernelSpec::from_json(b"{\n\"argv\": 1}").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn placeholders_are_replaced_inside_arguments_and_only_once() {
        let spec = KernelSpec {
            argv: [
                "x",
                "--f={connection_file}",
                "{resource_dir}/k {other} {",
                "{connection_file",
            ]
            .map(String::from)
            .to_vec(),
            ..KernelSpec::default()
        };
        assert_eq!(
            spec.command("/c {resource_dir}.json", "/r"),
            [
                "x",
                "--f=/c {resource_dir}.json",
                "/r/k {other} {",
                "{connection_file"
            ]
        );
    }

    #[test]
    fn environment_variables_are_expanded_where_they_are_known() {
        let mut spec = KernelSpec::default();
        spec.env
            .insert("A".into(), "${HOME}/x:${NONE}:$HOME:${é:${HOME}".into());
        let env = spec.expand_env(|name| (name == "HOME").then(|| "/h".to_owned()));
        assert_eq!(env["A"], "/h/x:${NONE}:$HOME:${é:/h");
    }

    #[test]
    fn names_are_letters_digits_and_three_marks() {
        for name in ["python3", "IR", "a.b-c_d"] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", "a/b", "..\\", "é", "a b"] {
            assert!(!is_valid_name(name), "{name}");
        }
    }
}

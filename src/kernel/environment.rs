//! The environment of a kernel's process: built from an allow list, so that no secret of the parent reaches code.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Variables that pass as they are.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "PYENV_VERSION",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONUTF8",
    "PYTHONHASHSEED",
    "PYTHONWARNINGS",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "CUDA_VISIBLE_DEVICES",
    "NO_PROXY",
    "no_proxy",
];

/// Families of variables that pass.
const PREFIXES: &[&str] = &["LC_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_"];

/// Proxies pass only where their address carries no user and password.
const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// What a kernel gets: what is allowed of `parent`, then `spec` (of the kernelspec), then `given` (by the user, name by
/// name). Later ones win.
pub fn kernel_environment(
    parent: impl IntoIterator<Item = (OsString, OsString)>,
    spec: impl IntoIterator<Item = (String, String)>,
    given: impl IntoIterator<Item = (String, String)>,
) -> Vec<(OsString, OsString)> {
    let allowed = parent
        .into_iter()
        .filter(|(name, value)| is_allowed(name, value));
    let named = spec
        .into_iter()
        .chain(given)
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let all: BTreeMap<OsString, OsString> = allowed.chain(named).collect();
    all.into_iter().collect()
}

/// What of Heddle's own environment means the same in a container: how many threads libraries start, and the time zone.
pub fn means_the_same(name: &OsStr) -> bool {
    const FAMILIES: &[&str] = &["OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_"];
    name.to_str()
        .is_some_and(|name| name == "TZ" || FAMILIES.iter().any(|family| name.starts_with(family)))
}

fn is_allowed(name: &OsStr, value: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    if PROXIES.contains(&name) {
        return !value.to_string_lossy().contains('@');
    }
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &[(&str, &str)]) -> Vec<String> {
        let parent = parent
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        kernel_environment(parent, [], [])
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn keys_and_tokens_stay_behind() {
        let seen = names(&[
            ("LLM_API_KEY", "k"),
            ("OPENAI_API_KEY", "k"),
            ("AWS_SECRET_ACCESS_KEY", "k"),
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
        ]);
        assert_eq!(seen, ["LC_ALL", "PATH"]);
    }

    #[test]
    fn a_proxy_with_a_password_stays_behind() {
        assert_eq!(
            names(&[("HTTPS_PROXY", "http://proxy:3128")]),
            ["HTTPS_PROXY"]
        );
        assert!(names(&[("HTTPS_PROXY", "http://me:pw@proxy:3128")]).is_empty());
    }

    #[test]
    fn what_the_user_names_wins() {
        let given = [("PATH".to_owned(), "/mine".to_owned())];
        let env = kernel_environment([("PATH".into(), "/bin".into())], [], given);
        assert_eq!(env, [("PATH".into(), "/mine".into())]);
    }
}

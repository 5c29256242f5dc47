//! The configuration: files, keys and their sources, what is wrong with them.

use super::Check;
use crate::config::{ConfigError, Loaded, Source};

pub(super) fn files(settings: &Result<Loaded, ConfigError>) -> Vec<Check> {
    let loaded = match settings {
        Ok(loaded) => loaded,
        Err(error) => {
            return vec![Check::fail(
                "configuration",
                error.to_string(),
                "mend that line, then: heddle config show",
            )];
        }
    };
    let files: Vec<String> = loaded
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let set: Vec<String> = loaded
        .values
        .iter()
        .filter(|value| value.source != Source::Default)
        .map(|value| format!("{} ({})", value.key, value.source))
        .collect();
    let found = match (files.is_empty(), set.is_empty()) {
        (true, true) => "no files, all settings have their defaults".to_owned(),
        (true, false) => format!("no files; set: {}", set.join(", ")),
        (false, true) => format!("{}, which sets nothing", files.join(", ")),
        (false, false) => format!("{}; set: {}", files.join(", "), set.join(", ")),
    };
    let mut checks = vec![Check::pass("configuration", found)];
    for warning in &loaded.warnings {
        checks.push(Check::warn(
            "configuration",
            warning.clone(),
            "heddle config show",
        ));
    }
    checks
}

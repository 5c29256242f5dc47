//! The configuration: files, keys and their sources, what is wrong with them.

use super::Check;
use crate::config::{ConfigError, Loaded, Source, Survey};

pub(super) fn files(survey: &Survey) -> Vec<Check> {
    let loaded = &survey.loaded;
    let fault = |fault: &ConfigError| {
        Check::fail(
            "configuration",
            fault.to_string(),
            "mend that line, then: heddle doctor    (what has a fault counts as not set below)",
        )
    };
    let mut checks: Vec<Check> = survey.faults.iter().map(fault).collect();
    if checks.is_empty() {
        checks.push(Check::pass("configuration", set(loaded)));
    }
    let folder = loaded.project_dir.clone().unwrap_or_default();
    for waiting in &loaded.waiting {
        checks.push(Check::warn(
            "configuration",
            format!(
                "{}: {} = {} does not count, since nobody has said that it is trusted",
                waiting.source, waiting.name, waiting.shown
            ),
            format!("heddle trust {}", folder.display()),
        ));
    }
    for warning in &loaded.warnings {
        checks.push(Check::warn(
            "configuration",
            warning.clone(),
            "heddle config show",
        ));
    }
    checks
}

/// The files, and what is set in them and elsewhere.
fn set(loaded: &Loaded) -> String {
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
    match (files.is_empty(), set.is_empty()) {
        (true, true) => "no files, all settings have their defaults".to_owned(),
        (true, false) => format!("no files; set: {}", set.join(", ")),
        (false, true) => format!("{}, which sets nothing", files.join(", ")),
        (false, false) => format!("{}; set: {}", files.join(", "), set.join(", ")),
    }
}

//! `heddle trust`, and the question that other commands ask: which values of a project file the person trusts.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::{CliError, Exit};
use super::output::print;
use super::{Global, approver, setup};
use crate::config::{Loaded, Remembered, Waiting};
use crate::printable::{escape_line, shell_word};

/// The settings that a command uses: it asks about no others. Each is a key, or the first part of several.
#[derive(Clone, Copy)]
pub struct Uses {
    of: &'static [&'static str],
    but: &'static [&'static str],
}

impl Uses {
    pub const ALL: Uses = Uses::of(&[
        "llm",
        "execution_service",
        "kernel",
        "code_interpreter",
        "session",
        "workspace",
    ]);
    pub const NOTHING: Uses = Uses::of(&[]);
    /// To run code of a person's in a kernel.
    pub const KERNEL: Uses = Uses::of(&["execution_service", "kernel"]);
    /// To find the Python of kernels.
    pub const PYTHON: Uses = Uses::of(&[
        "execution_service.kernel_mode",
        "execution_service.custom_image",
        "execution_service.image_python",
        "kernel.name",
    ]);
    pub const IMAGE: Uses = Uses::of(&["execution_service.custom_image"]);
    /// To check code.
    pub const POLICY: Uses = Uses::of(&[
        "code_interpreter.allowed_modules",
        "code_interpreter.blocked_modules",
        "code_interpreter.blocked_functions",
    ]);
    /// To find sessions.
    pub const SESSIONS: Uses = Uses::of(&["workspace"]);
    /// To share the kernel of a session.
    pub const SHARING: Uses = Uses::of(&["workspace", "kernel.keep"]);
    /// To let a model work in a kernel that runs already.
    pub const COMPANY: Uses = Uses::of(&["llm", "code_interpreter", "session", "workspace"]);
    /// What is read anew for each request to the agent of a bridge.
    pub const REQUEST: Uses = Uses::of(&["llm", "code_interpreter.approve"]);
    /// What a process settles before the first code of its kernels, for all of them. The rest is read for each request.
    pub const PLAN: Uses = Uses {
        but: &["llm", "code_interpreter.approve"],
        ..Uses::ALL
    };

    const fn of(of: &'static [&'static str]) -> Uses {
        Uses { of, but: &[] }
    }

    /// Whether a key, also one of a service's own, is among them.
    pub fn contains(self, key: &str) -> bool {
        let within = |of: &[&str]| {
            of.iter().any(|part| {
                let rest = key.strip_prefix(part);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        within(self.of) && !within(self.but)
    }

    /// The values that wait for trust and would be used.
    pub fn waiting(self, loaded: &Loaded) -> Vec<Waiting> {
        let used = |it: &&Waiting| it.effective && self.contains(&it.name);
        loaded.waiting.iter().filter(used).cloned().collect()
    }
}

/// Settles what becomes of values that are used and wait for trust: they count where the person says so now, or has
/// said so on the command line; else the command goes on without them.
///
/// # Errors
/// Where nobody can be asked: what waits, and what to type.
pub fn settle(global: &Global, uses: Uses, loaded: &mut Loaded) -> Result<(), CliError> {
    let waiting = uses.waiting(loaded);
    if waiting.is_empty() || global.distrust {
        return Ok(());
    }
    if global.trust {
        loaded.accept(&waiting);
        return Ok(());
    }
    if !approver::is_present() {
        return Err(refused(loaded, &waiting));
    }
    if ask(loaded, &waiting) {
        loaded.trusted_once = !remember(loaded, &waiting);
        loaded.accept(&waiting);
    } else {
        loaded.declined = true;
        setup::note(&format!(
            "This command goes on without them. To trust them later: {}",
            command(loaded)
        ));
    }
    Ok(())
}

/// Values that cannot count because nobody was asked, or said yes.
pub fn refused(loaded: &Loaded, waiting: &[Waiting]) -> CliError {
    let values: Vec<String> = waiting.iter().map(|it| format!("  {}", line(it))).collect();
    CliError::Untrusted(format!(
        "{} sets what counts only once you trust it:\n{}\nTo look at it and decide: {}",
        file(loaded),
        values.join("\n"),
        command(loaded)
    ))
}

/// A value, as one line.
pub fn line(waiting: &Waiting) -> String {
    format!("{} = {}", waiting.name, waiting.shown)
}

/// The command that decides about the project.
pub fn command(loaded: &Loaded) -> String {
    let folder = loaded.project_dir.as_deref().unwrap_or(Path::new("."));
    format!("heddle trust {}", shell_word(&folder.display().to_string()))
}

fn file(loaded: &Loaded) -> String {
    let file = loaded.project_file();
    let file = file.map(|file| file.display().to_string());
    escape_line(&file.unwrap_or_default()).into_owned()
}

/// Whether the person trusts these values.
fn ask(loaded: &Loaded, waiting: &[Waiting]) -> bool {
    setup::warn(&format!(
        "{} sets, and it was not trusted so far:",
        file(loaded)
    ));
    show(waiting);
    let mut err = std::io::stderr();
    let mut answer = String::new();
    let _ = write!(err, "Trust these values for this folder? y / N: ").and_then(|()| err.flush());
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "是")
}

fn show(waiting: &[Waiting]) {
    for value in waiting {
        let mut err = anstream::stderr();
        let bold = anstyle::Style::new().bold();
        let _ = writeln!(err, "  {bold}{}{bold:#}    ({})", line(value), value.source);
        let _ = writeln!(err, "      {}", value.allows);
    }
}

/// Remembers a yes. Whether that went well; else it counts for this command alone, which is said.
pub fn remember(loaded: &Loaded, values: &[Waiting]) -> bool {
    let remembered = loaded.remember(values);
    if let Err(reason) = &remembered {
        setup::warn(&format!(
            "This cannot be remembered, so it counts for this command alone: {reason}"
        ));
    }
    remembered.is_ok()
}

#[derive(Args)]
pub struct Trust {
    /// The project's folder [default: that of -p, or the one around the working directory]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The folders whose project files have values that you trust
    #[arg(long, conflicts_with_all = ["folder", "revoke"])]
    list: bool,
    /// Take back what you have said of the folder
    #[arg(long)]
    revoke: bool,
}

impl Trust {
    pub fn run(self, global: &Global) -> Result<Exit, CliError> {
        if self.list {
            return list(global.json);
        }
        let global = Global {
            project: self.folder.clone().or_else(|| global.project.clone()),
            ..global.clone()
        };
        if self.revoke {
            return revoke(&global);
        }
        let mut loaded = setup::read(&global, &[])?;
        let Some(file) = loaded.project_file().cloned() else {
            return Err(CliError::Usage(
                "there is no project file here. Name the folder that has one: heddle trust DIR"
                    .into(),
            ));
        };
        for warning in &loaded.warnings {
            setup::warn(warning);
        }
        let waiting = std::mem::take(&mut loaded.waiting);
        let shown = escape_line(&file.display().to_string()).into_owned();
        if waiting.is_empty() {
            print(&format!("{shown} has no value that needs your trust.\n"))?;
            return Ok(Exit::Done);
        }
        let yes = match (global.trust, approver::is_present()) {
            (true, _) => {
                show(&waiting);
                true
            }
            (false, true) => ask(&loaded, &waiting),
            (false, false) => {
                show(&waiting);
                return Err(CliError::Usage(format!(
                    "nobody can be asked here. To trust these values of {shown} unasked: {} --trust",
                    command(&loaded)
                )));
            }
        };
        if !yes {
            print("Nothing is trusted.\n")?;
            return Ok(Exit::Failed);
        }
        loaded.remember(&waiting).map_err(CliError::Missing)?;
        print(&format!(
            "Trusted, until a value changes. To take it back: {} --revoke\n",
            command(&loaded)
        ))?;
        Ok(Exit::Done)
    }
}

fn list(json: bool) -> Result<Exit, CliError> {
    let folders = Remembered::of_process().list();
    if json {
        let line = |(folder, keys): (String, Vec<String>)| {
            format!("{}\n", serde_json::json!({"folder": folder, "keys": keys}))
        };
        print(&folders.into_iter().map(line).collect::<String>())?;
        return Ok(Exit::Done);
    }
    if folders.is_empty() {
        print("No value of a project file is trusted.\n")?;
    }
    for (folder, keys) in folders {
        let folder = escape_line(&folder);
        print(&format!("{folder}: {}\n", keys.join(", ")))?;
    }
    Ok(Exit::Done)
}

fn revoke(global: &Global) -> Result<Exit, CliError> {
    let folder = match &global.project {
        // It need not be there any more.
        Some(folder) => folder
            .canonicalize()
            .or_else(|_| std::path::absolute(folder)),
        None => match setup::read(global, &[])?.project_dir {
            Some(folder) => Ok(folder),
            None => std::env::current_dir(),
        },
    };
    let folder = folder.map_err(CliError::io("the folder cannot be found"))?;
    let revoked = Remembered::of_process().revoke(&folder);
    let revoked = revoked.map_err(CliError::io("what is trusted cannot be changed"))?;
    let name = folder.display().to_string();
    print(&match revoked {
        true => format!("Nothing is trusted in {} any more.\n", escape_line(&name)),
        false => format!("Nothing was trusted in {}.\n", escape_line(&name)),
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    #[test]
    fn what_commands_use_are_keys() {
        for uses in [
            Uses::ALL,
            Uses::KERNEL,
            Uses::PYTHON,
            Uses::IMAGE,
            Uses::POLICY,
            Uses::SESSIONS,
            Uses::SHARING,
            Uses::COMPANY,
            Uses::REQUEST,
            Uses::PLAN,
        ] {
            for part in uses.of.iter().chain(uses.but) {
                let is = |name: &str| name == *part || name.starts_with(&format!("{part}."));
                assert!(KEYS.iter().any(|key| is(key.name)), "{part}");
            }
        }
        let in_a_bridge = |key: &str| Uses::PLAN.contains(key) != Uses::REQUEST.contains(key);
        assert!(KEYS.iter().all(|key| in_a_bridge(key.name)));
        assert!(KEYS.iter().all(|key| Uses::ALL.contains(key.name)));
        assert!(Uses::COMPANY.contains("llm.groq.api_base"));
        assert!(!Uses::KERNEL.contains("llm.api_base"));
        assert!(!Uses::PLAN.contains("llm.openai.api_key"));
        assert!(!Uses::PLAN.contains("code_interpreter.approve"));
        assert!(Uses::PLAN.contains("code_interpreter.allowed_modules"));
    }
}

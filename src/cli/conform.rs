//! `heddle conform`: whether a kernel keeps to the Jupyter messaging protocol.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::error::{CliError, Exit};
use super::mark::{Mark, line};
use super::trust::Uses;
use super::{Global, KernelArgs, setup};
use crate::conform::{Check, Target, Verdict, examine};
use crate::kernel::{Choice, Grants, Local, Options};
use crate::open;
use crate::protocol::{ConnectionInfo, Transport};

/// The largest connection file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

#[derive(Args)]
pub struct Conform {
    /// A kernelspec by name, see `heddle kernel list`, or the path of a running kernel's connection file
    kernel: String,
    /// How the kernel is connected to
    #[arg(long, value_name = "TRANSPORT", value_parser = ["tcp", "ipc"], default_value = "tcp")]
    transport: String,
}

/// How many checks came out how.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    not_supported: usize,
}

impl Conform {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let begun = Instant::now();
        let target = self.target(global)?;
        let mut tally = Tally::default();
        let mut family = "";
        let json = global.json;
        let mut tell = |check: Check| {
            match check.verdict {
                Verdict::Pass => tally.passed += 1,
                Verdict::Fail => tally.failed += 1,
                Verdict::NotSupported => tally.not_supported += 1,
            }
            let heading = match check.family == family {
                true => String::new(),
                false => format!("\n{}\n", check.family),
            };
            family = check.family;
            say(&match json {
                true => serde_json::to_string(&check).unwrap_or_default() + "\n",
                false => heading + &shown(&check),
            });
        };
        examine(target, &mut tell).await?;
        let Tally {
            passed,
            failed,
            not_supported,
        } = tally;
        let seconds = begun.elapsed().as_secs_f64();
        say(&match json {
            true => {
                let summary = json!({
                    "kernel": self.kernel, "passed": passed, "failed": failed,
                    "not_supported": not_supported, "seconds": seconds
                });
                format!("{}\n", json!({ "summary": summary }))
            }
            false => format!(
                "\n{}: {passed} passed, {failed} failed, {not_supported} not supported, in {seconds:.1} s\n",
                self.kernel
            ),
        });
        Ok(match failed {
            0 => Exit::Done,
            _ => Exit::Failed,
        })
    }

    fn target(&self, global: &Global) -> Result<Target, CliError> {
        let file = PathBuf::from(&self.kernel);
        // No kernelspec has such a name.
        if self.kernel.contains('/')
            || file.extension().is_some_and(|end| end == "json") && file.is_file()
        {
            let cannot = |reason: &dyn std::fmt::Display| {
                let path = file.display();
                CliError::Usage(format!(
                    "the connection file {path} cannot be read: {reason}. A kernel by name: heddle kernel list"
                ))
            };
            let bytes = open::read_input(&file, LARGEST).map_err(|error| cannot(&error))?;
            let connection = ConnectionInfo::from_json(&bytes).map_err(|error| cannot(&error))?;
            return Ok(Target::Running(Box::new(connection)));
        }
        let loaded = setup::load(global, Uses::NOTHING, &[])?;
        // It is started as a front end would.
        let precautions = setup::precautions(&loaded, false, &KernelArgs::default());
        let settings = loaded.settings;
        let options = Options {
            tap: None,
            launcher: Arc::new(Local::new()?),
            choice: Choice::of(Some(&self.kernel), &precautions, &mut |_| {})?,
            transport: match self.transport.as_str() {
                "ipc" => Transport::Ipc,
                _ => Transport::Tcp,
            },
            cwd: std::env::current_dir()
                .map_err(CliError::io("the working directory cannot be used"))?,
            env: Vec::new(),
            start_timeout: settings.kernel.start_timeout,
            grants: Grants::default(),
        };
        setup::note(
            "The kernel is started as a process of yours (mode local) and runs a few lines of sample code.",
        );
        Ok(Target::Start(Box::new(options)))
    }
}

/// A reader that has gone has all that it wanted; the exit code still says the rest.
fn say(text: &str) {
    let _ = anstream::stdout().write_all(text.as_bytes());
}

fn shown(check: &Check) -> String {
    let Check {
        name,
        expected,
        seen,
        ..
    } = check;
    match check.verdict {
        Verdict::Pass => line(Mark::Good, name, seen),
        Verdict::NotSupported => line(Mark::Absent, name, seen),
        Verdict::Fail => line(Mark::Bad, name, &format!("{seen}\nexpected: {expected}")),
    }
}

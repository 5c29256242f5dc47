//! The contenders and the table.

pub mod bare;
pub mod jupyter;
pub mod raw;
pub mod table;

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command that must succeed.
pub fn check(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{command:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

/// How long a command takes from its start to its end.
pub fn time_command(command: &mut Command) -> io::Result<Duration> {
    let started = Instant::now();
    check(command)?;
    Ok(started.elapsed())
}

/// How long a command takes until it prints a line that `wanted` recognises. It then runs to its end.
pub fn time_to_line(command: &mut Command, wanted: impl Fn(&str) -> bool) -> io::Result<Duration> {
    let mut errors = tempfile::tempfile()?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.try_clone()?)
        .spawn()?;
    let mut time = None;
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if time.is_none() && wanted(&line) {
                time = Some(started.elapsed());
            }
            printed.push(line);
        }
    }
    let status = child.wait()?;
    let mut said = String::new();
    errors.rewind()?;
    errors.read_to_string(&mut said)?;
    time.filter(|_| status.success()).ok_or_else(|| {
        io::Error::other(format!(
            "{command:?} ended with {status} and printed:\n{said}{}",
            printed.join("\n")
        ))
    })
}

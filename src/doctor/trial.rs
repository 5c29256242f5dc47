//! The last check: a cell is run where `auto` would run it.

use std::time::Instant;

use super::Check;
use crate::config::Settings;
use crate::event::{Event, Status};
use crate::executor::{Executor, Limits, NoInput, Places, interrupts};
use crate::kernel::mode::{self, Mode, Wanted};
use crate::kernel::{Choice, Grants, KernelError, Options};
use crate::protocol::Transport;

pub(super) async fn run(settings: &Settings) -> Check {
    let started = Instant::now();
    match attempt(settings).await {
        Ok((mode, sum)) if sum == "2" => Check::pass(
            "a trial",
            format!(
                "1 + 1 is {sum} in {mode} mode, {:.2} s from start to answer",
                started.elapsed().as_secs_f64()
            ),
        ),
        Ok((mode, said)) => Check::fail(
            "a trial",
            format!("a cell in {mode} mode gave {said:?} for 1 + 1"),
            "heddle run -c \"1 + 1\"",
        ),
        Err(error) => Check::fail(
            "a trial",
            error.to_string(),
            "mend what is above, then again",
        ),
    }
}

async fn attempt(settings: &Settings) -> Result<(&'static str, String), KernelError> {
    let chosen = mode::choose(Mode::Auto, &Wanted::of(settings)).await?;
    let mode = chosen.launcher.mode();
    let choice = match chosen.launcher.choice() {
        Some(choice) => choice,
        None => Choice::of(settings.kernel.name.as_deref(), &mut |_| {})?,
    };
    let folder = tempfile::tempdir().map_err(|error| KernelError::Launch(error.to_string()))?;
    let options = Options {
        tap: None,
        launcher: chosen.launcher,
        choice,
        transport: Transport::Ipc,
        cwd: folder.path().to_path_buf(),
        env: Vec::new(),
        start_timeout: settings.kernel.start_timeout,
        grants: Grants {
            memory: 1 << 30,
            ..Grants::default()
        },
    };
    let places = Places {
        artifacts: None,
        texts: None,
        watch: false,
    };
    let limits = Limits {
        timeout: Some(settings.kernel.start_timeout),
        characters: 100,
    };
    // A container's engine may take its time before the kernel itself is waited for.
    let start = Executor::start(options, places, limits);
    let started =
        tokio::time::timeout(settings.kernel.start_timeout.saturating_mul(2), start).await;
    let mut executor = started.unwrap_or(Err(KernelError::NotReady { unverified: 0 }))?;
    let (_keep, mut interrupts) = interrupts();
    let outcome = executor
        .run("1 + 1", &mut |_: Event| {}, &mut NoInput, &mut interrupts)
        .await?;
    executor.shutdown().await;
    Ok((
        mode,
        match outcome.status {
            Status::Ok => outcome.values.trim().to_owned(),
            _ => outcome.report(200),
        },
    ))
}

//! The last check: a cell is run where `auto` would run it.

use std::sync::Arc;
use std::time::Instant;

use super::{Check, News, Tell};
use crate::config::Settings;
use crate::event::{Event, Status};
use crate::executor::{Executor, Limits, NoInput, Places, interrupts};
use crate::kernel::mode::{self, Mode, Wanted};
use crate::kernel::python::Precautions;
use crate::kernel::{Choice, Grants, KernelError, Launcher, Options};
use crate::protocol::Transport;

/// Makes the Python environment if there is none, which is told as a check of its own; then times the cell.
pub(super) async fn run(settings: &Settings, precautions: &Precautions, tell: Tell<'_>) {
    let (launcher, choice) = match prepare(settings, precautions, tell).await {
        Ok(prepared) => prepared,
        Err(error) => return tell(News::Check(failed(&error))),
    };
    let mode = launcher.mode();
    let started = Instant::now();
    let check = match attempt(settings, launcher, choice).await {
        Ok(sum) if sum == "2" => Check::pass(
            "a trial",
            format!(
                "1 + 1 is {sum} in {mode} mode, {:.2} s from start to answer",
                started.elapsed().as_secs_f64()
            ),
        ),
        Ok(said) => Check::fail(
            "a trial",
            format!("a cell in {mode} mode gave {said:?} for 1 + 1"),
            "heddle run -c \"1 + 1\"",
        ),
        Err(error) => failed(&error),
    };
    tell(News::Check(check));
}

fn failed(error: &KernelError) -> Check {
    Check::fail(
        "a trial",
        error.to_string(),
        "mend what is above, then again",
    )
}

async fn prepare(
    settings: &Settings,
    precautions: &Precautions,
    tell: Tell<'_>,
) -> Result<(Arc<dyn Launcher>, Choice), KernelError> {
    let chosen = mode::choose(Mode::Auto, &Wanted::of(settings)).await?;
    if let Some(choice) = chosen.launcher.choice() {
        return Ok((chosen.launcher, choice));
    }
    let started = Instant::now();
    // Something is told only if an environment has to be made.
    let mut made = false;
    let choice = Choice::of(settings.kernel.name.as_deref(), precautions, &mut |step| {
        made = true;
        tell(News::Step(step));
    })?;
    if made {
        let found = format!("made, once, in {:.0} s", started.elapsed().as_secs_f64());
        tell(News::Check(Check::pass("Python environment", found)));
    }
    Ok((chosen.launcher, choice))
}

/// What the cell gave.
async fn attempt(
    settings: &Settings,
    launcher: Arc<dyn Launcher>,
    choice: Choice,
) -> Result<String, KernelError> {
    let folder = tempfile::tempdir().map_err(|error| KernelError::Launch(error.to_string()))?;
    let options = Options {
        tap: None,
        launcher,
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
    let places = Places::default();
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
    Ok(match outcome.status {
        Status::Ok => outcome.values.trim().to_owned(),
        _ => outcome.report(200),
    })
}

//! Kernels that outlive their command: starting one, coming back to it, ending it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::error::CliError;
use super::{Global, KernelArgs, setup};
use crate::config::Loaded;
use crate::executor::{Executor, Limits, Places};
use crate::kernel::{Join, Kernel, connections, remove_deserted};
use crate::protocol::content::ShutdownRequest;
use crate::protocol::{Channel, Content};
use crate::session::conversation::{Conversation, Setup};
use crate::session::whereabouts::{Way, Whereabouts, noted};
use crate::session::{self, Session, SessionId, Workspace};

/// The mode, as launchers name it.
pub const CONTAINER: &str = "container";

/// How long a kept kernel may take to answer when somebody comes back.
const PATIENCE: Duration = Duration::from_secs(15);

/// What there is to know of a kernel that is kept in a container. Its connection to the engine is lost with that, also
/// where the engine leaves containers running.
pub const ENDS_WITH_ENGINE: &str = "A kernel that is kept in a container ends when the container engine stops or restarts, as it does when its \
     package is upgraded (with live-restore, too).";

/// The connection file of a session's kept kernel, where that answers now.
pub async fn of(workspace: &Workspace) -> Option<Whereabouts> {
    found(workspace, Way::Kept).await
}

/// A connection file for other clients of a session's kernel: that of one that is kept, or of a bridge before one that
/// ends with its command, which is started where there is none.
pub async fn shared(
    global: &Global,
    loaded: &Loaded,
    id: &SessionId,
    workspace: &Workspace,
) -> Result<Option<PathBuf>, CliError> {
    for way in [Way::Kept, Way::Shared] {
        if let Some(found) = found(workspace, way).await {
            return Ok(Some(found.connection_file));
        }
    }
    if found(workspace, Way::Running).await.is_none() {
        return Ok(None);
    }
    let idle = loaded.settings.kernel.keep;
    let none = KernelArgs::default();
    begin(global, loaded, &none, "share", idle, id)
        .await
        .map(Some)
}

/// The connection file of this kind, where a kernel answers on it now.
async fn found(workspace: &Workspace, way: Way) -> Option<Whereabouts> {
    let found = noted(workspace, way)?;
    let connection = connections::read(&found.connection_file).ok()?;
    if connections::echoes(&connection).await {
        return Some(found);
    }
    // The folder of a kernel belongs to its supervisor. That of a bridge is left when the bridge is killed.
    if way != Way::Running {
        remove_deserted(&found.connection_file);
    }
    None
}

/// Opens a conversation: in the kernel that was kept for the session, in one that is kept from now on where that is
/// asked for, or in one that ends with the command.
pub async fn open(
    global: &Global,
    args: &KernelArgs,
    loaded: &Loaded,
    setup: Setup,
    session: Option<&str>,
    keep: bool,
) -> Result<Conversation, CliError> {
    let session = match session {
        Some(text) => Session::open(&setup.sessions, &session::resolve(&setup.sessions, text)?)?,
        None => Session::create(&setup.sessions)?,
    };
    let idle = loaded.settings.kernel.keep;
    let workspace = session.workspace().clone();
    let (file, earlier) = match of(&workspace).await {
        Some(kept) => {
            let is = &kept.surroundings;
            // A kernelspec of Heddle's own stands for another kernel, which is the one that was kept.
            let wanted = KernelArgs {
                kernel: args
                    .kernel
                    .as_ref()
                    .and(loaded.settings.kernel.name.clone()),
                ..args.clone()
            };
            wanted.fit(&is.mode, &is.kernel).map_err(|refused| {
                CliError::Usage(format!(
                    "{refused}. Leave that out, or end the kernel first: heddle session stop {}",
                    session.id()
                ))
            })?;
            (kept.connection_file, Some(kept.surroundings))
        }
        None if keep => {
            if setup.launcher.mode() == CONTAINER {
                setup::note(ENDS_WITH_ENGINE);
            }
            let file = begin(global, loaded, args, "keep", idle, session.id()).await?;
            (file, None)
        }
        None => return Ok(Conversation::open(setup, session)),
    };
    let executor = join(&file, &workspace, setup.cell, setup.start_timeout).await?;
    Ok(Conversation::kept(setup, session, executor, earlier))
}

async fn join(
    file: &Path,
    workspace: &Workspace,
    limits: Limits,
    start_timeout: Duration,
) -> Result<Executor, CliError> {
    let kernel = Kernel::join(Join {
        connection_file: file.to_owned(),
        connection: connections::read(file)?,
        cwd: workspace.cwd(),
        patience: start_timeout.max(PATIENCE),
    })
    .await?;
    let places = Places {
        artifacts: Some(workspace.cwd()),
        texts: Some(workspace.outputs()),
        watch: true,
    };
    Ok(Executor::over(kernel, places, limits))
}

/// Starts a process that goes on without us, `heddle kernel keep` or `share`, and gives its connection file.
async fn begin(
    global: &Global,
    loaded: &Loaded,
    args: &KernelArgs,
    what: &str,
    idle: Duration,
    id: &SessionId,
) -> Result<PathBuf, CliError> {
    let heddle =
        std::env::current_exe().map_err(CliError::io("the heddle binary cannot be found"))?;
    let mut command = Command::new(heddle);
    command
        .args(["kernel", what, id.as_str()])
        .arg(format!("--idle={}", idle.as_secs_f64()))
        .args(args.as_options())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(project) = &global.project {
        command.arg("--project").arg(project);
    }
    // Nobody can be asked there. What the person has trusted is remembered.
    if global.trust || loaded.trusted_once {
        command.arg("--trust");
    } else if loaded.declined || global.distrust {
        command.arg("--distrust");
    }
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    let failed = |error: String| {
        CliError::Missing(format!(
            "the kernel cannot be {what}: {error}",
            what = if what == "keep" { "kept" } else { "shared" }
        ))
    };
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let answer = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        if let Some(out) = out {
            BufReader::new(out).read_line(&mut line)?;
        }
        let mut reason = String::new();
        if line.is_empty()
            && let Some(err) = err
        {
            err.take(8192).read_to_string(&mut reason)?;
        }
        Ok::<_, std::io::Error>((line, reason))
    });
    let Ok(answer) = tokio::time::timeout(PATIENCE, answer).await else {
        // Which ends the reading, too.
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!(
            "its process said nothing for {} s",
            PATIENCE.as_secs()
        )));
    };
    let (line, reason) = answer
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    match line.trim_end() {
        "" => Err(failed(reason.trim().to_owned())),
        path => Ok(PathBuf::from(path)),
    }
}

/// Ends a session's kept kernel, and waits until it says so. Whether there was one.
pub async fn stop(workspace: &Workspace) -> Result<bool, CliError> {
    let Some(Whereabouts {
        connection_file,
        pid,
        ..
    }) = of(workspace).await
    else {
        return Ok(false);
    };
    let kernel = Kernel::join(Join {
        connection: connections::read(&connection_file)?,
        connection_file,
        cwd: workspace.cwd(),
        patience: PATIENCE,
    })
    .await?;
    let request = Content::ShutdownRequest(ShutdownRequest { restart: false });
    let asked = kernel.client().ask(Channel::Control, request);
    let ended = async {
        // It may be gone before its reply is read.
        let _ = asked.await;
        kernel.client().death().await
    };
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(_) => Ok(true),
        Err(_) => Err(CliError::Missing(format!(
            "the kept kernel does not end. End its process: kill {pid}"
        ))),
    }
}

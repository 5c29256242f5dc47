//! `heddle kernel serve`: what a front end starts.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::served::{Reader, Served, Whose, place};
use crate::bridge::{self, Conduct};
use crate::cli::error::{CliError, Exit};
use crate::cli::{Global, KernelArgs};
use crate::protocol::content::KernelInfoReply;
use crate::protocol::{ConnectionInfo, Content};
use crate::session;

#[derive(Args)]
pub struct Serve {
    /// The connection file that the front end has written
    #[arg(short = 'f', long = "connection-file", value_name = "FILE")]
    connection_file: PathBuf,
    /// What the kernel said of itself when it was installed
    #[arg(long, value_name = "FILE")]
    info: Option<PathBuf>,
    /// The Python that it was installed with
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    #[command(flatten)]
    kernel: KernelArgs,
}

impl Serve {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let file = std::path::absolute(&self.connection_file)
            .map_err(CliError::io("the connection file's folder cannot be found"))?;
        let connection = read_connection(&file)?;
        let reader = Reader::new(global, &self.kernel);
        let conduct = Conduct {
            info: self.info.as_deref().and_then(read_info),
            place: place(&reader),
            idle: None,
            ends_with_kernel: false,
        };
        let whose = Whose::Notebook(session::notebooks::name(&file, &connection));
        let backing = Served::new(reader, whose).on(self.python);
        let ended = bridge::serve(&connection, Arc::new(backing), conduct, abandoned()?).await;
        ended
            .map(|_| Exit::Done)
            .map_err(|error| CliError::Missing(error.to_string()))
    }
}

fn read_connection(file: &Path) -> Result<ConnectionInfo, CliError> {
    let text = std::fs::read(file).map_err(CliError::io(format!(
        "the connection file {} cannot be read",
        file.display()
    )))?;
    ConnectionInfo::from_json(&text)
        .map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))
}

fn read_info(file: &Path) -> Option<KernelInfoReply> {
    let text = std::fs::read(file).ok()?;
    match Content::decode("kernel_info_reply", &text.into()) {
        Content::KernelInfoReply(info) => Some(info),
        _ => None,
    }
}

/// Waits until nobody is there any more who wants us: the front end has gone, or tells us to go by a signal.
fn abandoned() -> Result<impl Future<Output = ()>, CliError> {
    let watch = |kind| signal(kind).map_err(CliError::io("signals cannot be watched"));
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hang_up = watch(SignalKind::hangup())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    // A front end interrupts by message; a signal from its terminal is not for us.
    let by_hand = std::io::stdin().is_terminal();
    Ok(async move {
        let mut gone = std::pin::pin!(bridge::parent::gone());
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = hang_up.recv() => return,
                () = &mut gone => return,
                _ = interrupt.recv() => if by_hand { return },
            }
        }
    })
}

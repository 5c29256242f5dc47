//! A kernel that somebody else started: there is no process to signal, only its sockets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::{Client, KernelError, Tap};
use crate::protocol::{Channel, ConnectionInfo};
use crate::transport::{Heartbeat, TransportError};

/// How long one beat may take, and how many may be missed in a row before the kernel counts as dead.
const BEAT: Duration = Duration::from_secs(3);
const MISSES: u32 = 3;

/// Which running kernel to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where `connection` was read, for messages and for other clients.
    pub connection_file: PathBuf,
    pub connection: ConnectionInfo,
    /// Where its code works, as far as it is known here.
    pub cwd: PathBuf,
    /// How long the kernel may take to answer.
    pub patience: Duration,
}

/// The connection to it, and who watches over that.
pub(super) struct Joined {
    pub(super) connection_file: PathBuf,
    pub(super) client: Client,
    /// As the kernel itself names it.
    pub(super) language: String,
    watcher: JoinHandle<()>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Joined {
    pub(super) async fn connect(
        join: Join,
        tap: Option<Arc<dyn Tap>>,
    ) -> Result<Joined, KernelError> {
        let deadline = Instant::now() + join.patience;
        let refused = |error| explained(error, &join);
        let client = Client::connect_tapped(&join.connection, deadline, tap)
            .await
            .map_err(refused)?;
        let language = match timeout_at(deadline, client.info()).await {
            Ok(info) => info.map_err(refused)?.language_info.name,
            Err(_) => {
                let unverified = client.unverified();
                return Err(refused(KernelError::NotReady { unverified }));
            }
        };
        // A kernel without one is watched by its connections alone.
        let address = join.connection.address(Channel::Heartbeat);
        let heartbeat = Heartbeat::connect(address, deadline).await.ok();
        Ok(Joined {
            watcher: tokio::spawn(watch(client.clone(), heartbeat)),
            connection_file: join.connection_file,
            client,
            language,
        })
    }
}

/// Tells every waiter of the kernel's end.
async fn watch(client: Client, heartbeat: Option<Heartbeat>) {
    let reason = tokio::select! {
        () = client.closed() => match client.farewell() {
            Some(true) => "was restarted by another client",
            Some(false) => "was shut down by another client",
            None => "ended without a word: its connections are closed",
        },
        () = silence(heartbeat) => "no longer answers its heartbeat: it hangs, or its machine is gone",
    };
    client.die(reason);
}

/// Waits until beats are missed. A closed connection is noticed by others, which know more of it.
async fn silence(heartbeat: Option<Heartbeat>) {
    let mut missed = 0;
    if let Some(mut heartbeat) = heartbeat {
        while let Ok(echoed) = heartbeat.beat(BEAT).await {
            missed = if echoed { 0 } else { missed + 1 };
            if missed == MISSES {
                return;
            }
            if echoed {
                tokio::time::sleep(BEAT).await;
            }
        }
    }
    std::future::pending().await
}

/// Why there is no connection, in terms of a kernel that others started.
fn explained(error: KernelError, join: &Join) -> KernelError {
    let reason = match error {
        KernelError::Transport(TransportError::NobodyListens { address, .. }) => format!(
            "nobody listens on {address}: it has ended, or runs on another machine. heddle attach last joins the \
             newest one that runs"
        ),
        KernelError::NotReady { unverified: 0 } => format!(
            "it gave no answer in {} s. It is busy or stopped, or the key in the file is not its own. Interrupt it \
             where it was started, or name another: heddle attach FILE",
            join.patience.as_secs_f64()
        ),
        KernelError::NotReady { unverified } => format!(
            "the key in the file is not its own: {unverified} of its messages do not verify. The file is an old one, \
             or another kernel's. heddle attach last joins the newest kernel that answers"
        ),
        KernelError::Transport(error) => format!(
            "{error}. What listens there is no Jupyter kernel, or it has just ended. heddle attach last joins the \
             newest one that runs"
        ),
        error => return error,
    };
    KernelError::NotJoined {
        file: join.connection_file.clone(),
        reason,
    }
}

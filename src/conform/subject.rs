//! The kernel that is examined: started or found, connected to, and started anew when a check was its end.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::heard::{Heard, Log};
use super::lifecycle::Ending;
use super::observed::Observed;
use super::peer::Peer;
use super::sample::Sample;
use super::{Flaw, Target};
use crate::kernel::{Bare, KernelError, Options};
use crate::protocol::{Channel, ConnectionInfo, InterruptMode};

/// How often a kernel that is starting is asked whether it is there.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a kernel that runs may take to answer first.
const RUNNING: Duration = Duration::from_secs(10);
/// How long the first cell may take: kernels compile and import then.
const WARM_UP: Duration = Duration::from_secs(30);
/// How long the reason of an end may take after the connection's.
const OBITUARY: Duration = Duration::from_secs(1);

/// A kernel and our connection to it.
pub(super) struct Subject {
    pub peer: Peer,
    pub connection: ConnectionInfo,
    /// `None` when somebody else started it.
    pub kernel: Option<Bare>,
    /// The content of its `kernel_info_reply`.
    pub info: Value,
    pub sample: &'static Sample,
    /// From the start, or the connection, to the first reply.
    pub ready_after: Duration,
    /// What came when the kernel was asked to end.
    pub ending: Option<Ending>,
}

impl Subject {
    pub async fn of(target: Target) -> Result<Subject, KernelError> {
        match target {
            Target::Start(options) => start(*options, Observed::default()).await,
            Target::Running(connection) => attach(*connection, Observed::default()).await,
        }
    }

    /// The language that the kernel says it runs.
    pub fn language(&self) -> &str {
        self.info["language_info"]["name"].as_str().unwrap_or("?")
    }

    /// Code in the kernel's language, for something.
    pub fn code<T: Copy>(&self, what: &str, of: impl Fn(&Sample) -> Option<T>) -> Result<T, Flaw> {
        let language = self.language();
        of(self.sample).ok_or_else(|| {
            Flaw::unsupported(match self.sample.is_none() {
                true => format!("no sample code for {language}"),
                false => format!("no sample code for {language} that {what}"),
            })
        })
    }

    /// Whether the kernel announces a feature (JEP 92).
    pub fn supports(&self, feature: &str) -> bool {
        let features = self.info["supported_features"].as_array();
        features.is_some_and(|features| features.iter().any(|named| named == feature))
            || feature == "debugger" && self.info["debugger"] == true
    }

    /// The kernel, where it may be ended.
    pub fn own(&mut self) -> Result<&mut Bare, Flaw> {
        self.kernel.as_mut().ok_or_else(|| {
            Flaw::unsupported("not tried: the kernel was running before, and could end of it")
        })
    }

    /// Unknown of a kernel that somebody else started.
    pub fn interrupt_mode(&self) -> Option<InterruptMode> {
        self.kernel
            .as_ref()
            .map(|kernel| kernel.spec().interrupt_mode)
    }

    /// Another client of the same kernel.
    pub async fn another(&self) -> Result<Peer, Flaw> {
        let deadline = Instant::now() + RUNNING;
        let connected = Peer::connect(&self.connection, deadline).await;
        connected.map_err(|error| Flaw::seen(format!("a second client: {error}")))
    }

    /// Whether the kernel still answers.
    pub async fn answers(&mut self) -> bool {
        self.peer.forget();
        self.peer.fence(Channel::Shell).await.is_ok()
    }

    /// How the kernel ended, after its connection did.
    pub async fn obituary(&self, how: String) -> String {
        let Some(kernel) = &self.kernel else {
            return how;
        };
        match tokio::time::timeout(OBITUARY, kernel.process().exit()).await {
            Ok(exit) => format!("the kernel {exit}"),
            Err(_) => how,
        }
    }

    /// Connects anew, to a new kernel where we may start one.
    pub async fn renew(&mut self) -> Result<(), KernelError> {
        let observed = std::mem::take(&mut self.peer.observed);
        *self = match &self.kernel {
            Some(kernel) => {
                kernel.kill().await;
                start(kernel.options().clone(), observed).await?
            }
            None => attach(self.connection.clone(), observed).await?,
        };
        Ok(())
    }

    /// Starts another kernel on the same connection file, as a restart does, and connects to it.
    pub async fn restart(&mut self) -> Result<(), Flaw> {
        let kernel = self.own()?;
        let patience = kernel.options().start_timeout;
        let begun = Instant::now();
        let restarted = async {
            kernel.restart().await?;
            let connect = Peer::connect(kernel.connection(), begun + patience);
            kernel.first(connect).await
        };
        let mut peer = match restarted.await {
            Ok(peer) => peer,
            Err(error) => return Err(Flaw::Gone(error.to_string())),
        };
        peer.observed = std::mem::take(&mut self.peer.observed);
        self.peer = peer;
        self.ending = None;
        let ready = ready(&mut self.peer, begun + patience).await;
        ready.map_err(|error| Flaw::Gone(error.to_string()))?;
        Ok(())
    }

    pub async fn end(self) {
        if let Some(kernel) = self.kernel {
            kernel.kill().await;
        }
    }
}

async fn start(options: Options, observed: Observed) -> Result<Subject, KernelError> {
    let begun = Instant::now();
    let deadline = begun + options.start_timeout;
    let kernel = Bare::start(options).await?;
    let connection = kernel.connection().clone();
    let connected = async {
        let mut peer = Peer::connect(&connection, deadline).await?;
        peer.observed = observed;
        let info = ready(&mut peer, deadline).await?;
        Ok((peer, info))
    };
    let (peer, info) = kernel.first(connected).await?;
    Ok(subject(peer, info, connection.clone(), Some(kernel), begun).await)
}

async fn attach(connection: ConnectionInfo, observed: Observed) -> Result<Subject, KernelError> {
    let begun = Instant::now();
    let mut peer = Peer::connect(&connection, begun + RUNNING).await?;
    peer.observed = observed;
    let info = ready(&mut peer, begun + RUNNING).await?;
    Ok(subject(peer, info, connection, None, begun).await)
}

async fn subject(
    mut peer: Peer,
    info: Value,
    connection: ConnectionInfo,
    kernel: Option<Bare>,
    begun: Instant,
) -> Subject {
    let ready_after = begun.elapsed();
    let language = info["language_info"]["name"].as_str().unwrap_or_default();
    let sample = Sample::of(language);
    if let Some((code, _)) = sample.value {
        let content = super::peer::execute(code, json!({}));
        if let Ok(request) = peer.send(Channel::Shell, "execute_request", content).await {
            // What is wrong with it is found by the checks.
            let _ = peer
                .until_within(WARM_UP, |log| log.is_replied(&request))
                .await;
        }
    }
    Subject {
        peer,
        connection,
        kernel,
        info,
        sample,
        ready_after,
        ending: None,
    }
}

/// Asks until there is a reply and something published, so that nothing of what follows is missed. Gives the content of
/// the reply.
pub(super) async fn ready(peer: &mut Peer, deadline: Instant) -> Result<Value, KernelError> {
    loop {
        let asked = peer
            .send(Channel::Shell, "kernel_info_request", json!({}))
            .await;
        let is_reply = |heard: &&Heard| heard.msg_type() == "kernel_info_reply";
        let published = |log: &Log| log.0.iter().any(|heard| heard.channel == Channel::Iopub);
        let enough = |log: &Log| published(log) && log.0.iter().any(|heard| is_reply(&heard));
        let heard = match asked {
            Ok(_) => peer.until_within(ASK_AGAIN, enough).await.map(drop),
            Err(flaw) => Err(flaw),
        };
        if let Err(Flaw::Gone(how) | Flaw::Seen(how) | Flaw::Unsupported(how)) = heard {
            return Err(KernelError::Died(how));
        }
        let late = Instant::now() >= deadline;
        if let Some(reply) = peer.log.0.iter().find(is_reply)
            && (published(&peer.log) || late)
        {
            return Ok(reply.content.clone());
        }
        if late {
            return Err(KernelError::NotReady { unverified: 0 });
        }
    }
}

//! The end of a kernel, and its next life.

use std::time::Duration;

use serde_json::json;

use super::execution::{any, is_ok};
use super::heard::{Heard, Request};
use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::isolation::Exit;
use crate::kernel::{Bare, KernelError};
use crate::protocol::{Channel, Transport};

/// How long a kernel may take to end after it was asked.
const END: Duration = Duration::from_secs(5);
/// How long a kernel may take to start again.
const START: Duration = Duration::from_secs(15);

family! { "lifecycle";
    "Unix sockets and TCP are both served" =>
        "a kernel that listens where a connection file of either transport says", transports;
    "shutdown_request for a restart is answered" =>
        "a shutdown_reply on control with restart true", asked_to_restart;
    "a restart is published" =>
        "a shutdown_reply on iopub, for the other clients", restart_published;
    "the kernel ends for a restart" =>
        "the process exits by itself", ended_for_restart;
    "a new kernel serves the same connection file" =>
        "another process on the same addresses with the same key, its count fresh", restarted;
    "shutdown_request is answered" =>
        "a shutdown_reply on control with restart false", asked_to_end;
    "a shutdown is published" =>
        "a shutdown_reply on iopub, for the other clients", end_published;
    "the kernel ends" =>
        "the process exits by itself", ended;
}

/// What came of a `shutdown_request`.
pub(super) struct Ending {
    restart: bool,
    request: Request,
    heard: Vec<Heard>,
    exit: Option<Exit>,
}

/// Asks for the end, where that was not done yet, and hears all that comes until it.
async fn end(subject: &mut Subject, restart: bool) -> Result<&Ending, Flaw> {
    subject.own()?;
    let done = subject.ending.as_ref();
    if done.is_none_or(|ending| ending.restart != restart) {
        let peer = &mut subject.peer;
        let content = json!({ "restart": restart });
        let request = peer
            .send(Channel::Control, "shutdown_request", content)
            .await?;
        let deadline = tokio::time::Instant::now() + END;
        peer.until_closed(deadline).await;
        let heard = std::mem::take(&mut peer.log.0);
        let process = subject.own()?.process();
        let exit = tokio::time::timeout_at(deadline, process.exit()).await.ok();
        subject.ending = Some(Ending {
            restart,
            request,
            heard,
            exit,
        });
    }
    let ending = subject.ending.as_ref();
    ending.ok_or_else(|| Flaw::seen("it was not asked to end"))
}

async fn replied(subject: &mut Subject, restart: bool, channel: Channel) -> Outcome {
    let ending = end(subject, restart).await?;
    let found = ending
        .heard
        .iter()
        .find(|heard| heard.channel == channel && heard.msg_type() == "shutdown_reply");
    let Some(reply) = found else {
        if channel == Channel::Iopub {
            return Err(Flaw::unsupported(
                "none came; the specification does not ask for it",
            ));
        }
        return Err(Flaw::seen(format!(
            "no shutdown_reply on {}",
            channel.name()
        )));
    };
    let right = reply.content["restart"] == restart
        && reply.content["status"] == "ok"
        && reply.is_child_of(&ending.request);
    match right {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{} with the parent {}",
            reply.content, reply.parent["msg_id"]
        ))),
    }
}

async fn exited(subject: &mut Subject, restart: bool) -> Outcome {
    let ending = end(subject, restart).await?;
    match &ending.exit {
        Some(exit @ Exit::Code(_)) => Ok(format!("it {exit}")),
        Some(exit) => Err(Flaw::seen(format!("it {exit}"))),
        None => Err(Flaw::seen(format!("it runs after {} s", END.as_secs()))),
    }
}

async fn asked_to_restart(subject: &mut Subject) -> Outcome {
    replied(subject, true, Channel::Control).await
}

async fn restart_published(subject: &mut Subject) -> Outcome {
    replied(subject, true, Channel::Iopub).await
}

async fn ended_for_restart(subject: &mut Subject) -> Outcome {
    exited(subject, true).await
}

async fn restarted(subject: &mut Subject) -> Outcome {
    end(subject, true).await?;
    subject.restart().await?;
    let code = any(subject)?;
    let ran = subject.peer.run(code).await?;
    is_ok(&subject.peer.log, &ran)?;
    match subject.peer.log.reply(&ran)?.number("execution_count")? {
        1 => Ok(String::new()),
        count => Err(Flaw::seen(format!(
            "execution_count {count} in its first cell"
        ))),
    }
}

async fn asked_to_end(subject: &mut Subject) -> Outcome {
    replied(subject, false, Channel::Control).await
}

async fn end_published(subject: &mut Subject) -> Outcome {
    replied(subject, false, Channel::Iopub).await
}

async fn ended(subject: &mut Subject) -> Outcome {
    exited(subject, false).await
}

async fn transports(subject: &mut Subject) -> Outcome {
    let mut options = subject.own()?.options().clone();
    options.transport = match options.transport {
        Transport::Tcp => Transport::Ipc,
        Transport::Ipc => Transport::Tcp,
    };
    options.start_timeout = START;
    let name = match options.transport {
        Transport::Tcp => "tcp",
        Transport::Ipc => "ipc",
    };
    let deadline = tokio::time::Instant::now() + START;
    let other: Result<(), KernelError> = async {
        let kernel = Bare::start(options).await?;
        let connected = async {
            let mut peer = super::peer::Peer::connect(kernel.connection(), deadline).await?;
            super::subject::ready(&mut peer, deadline).await
        };
        kernel.first(connected).await?;
        kernel.kill().await;
        Ok(())
    }
    .await;
    match other {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(Flaw::unsupported(format!("over {name}: {error}"))),
    }
}

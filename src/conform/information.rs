//! What a kernel says of itself, and the states around each answer.

use std::time::Duration;

use serde_json::json;

use super::heard::{Log, Request};
use super::peer::{Peer, execute};
use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::protocol::Channel;

/// How late a welcome may be.
const LATE: Duration = Duration::from_millis(400);

family! { "information";
    "starts and answers" =>
        "a kernel_info_reply after the start", starts;
    "kernel_info_reply is complete" =>
        "protocol_version, implementation, implementation_version, banner, and language_info with name, version, \
         mimetype and file_extension", complete;
    "busy comes first and idle last on shell" =>
        "exactly one status busy before, and one status idle after, all else that is published for a request",
        states_on_shell;
    "busy comes first and idle last on control" =>
        "exactly one status busy, then one status idle, for a request on control", states_on_control;
    "kernel_info is answered on control" =>
        "the same kernel_info_reply as on shell", on_control;
    "iopub_welcome greets a subscriber" =>
        "an iopub_welcome to whoever subscribes (JEP 65)", welcome;
    "iopub_welcome greets a second subscriber" =>
        "an iopub_welcome to each new subscriber, while others are subscribed", second_welcome;
    "connect_request is answered" =>
        "a connect_reply with the ports; deprecated, and not every kernel has it", connect;
}

async fn starts(subject: &mut Subject) -> Outcome {
    let text = |field: &str| subject.info[field].as_str().unwrap_or("?").to_owned();
    Ok(format!(
        "{} {} ({}), after {:.2} s",
        text("implementation"),
        text("implementation_version"),
        subject.language(),
        subject.ready_after.as_secs_f64()
    ))
}

async fn complete(subject: &mut Subject) -> Outcome {
    let info = &subject.info;
    let mut missing: Vec<String> = [
        "protocol_version",
        "implementation",
        "implementation_version",
        "banner",
    ]
    .into_iter()
    .filter(|field| !info[*field].is_string())
    .map(str::to_owned)
    .collect();
    let language = ["name", "version", "mimetype", "file_extension"]
        .into_iter()
        .filter(|field| !info["language_info"][*field].is_string());
    missing.extend(language.map(|field| format!("language_info.{field}")));
    if !info["status"].is_null() && info["status"] != "ok" {
        missing.push(format!("status ok (it is {})", info["status"]));
    }
    match missing.is_empty() {
        true => Ok(format!("protocol {}", info["protocol_version"])),
        false => Err(Flaw::seen(format!("it lacks {}", missing.join(", ")))),
    }
}

async fn states_on_shell(subject: &mut Subject) -> Outcome {
    let code = subject.sample.value.map_or("", |(code, _)| code);
    let mut sent = Vec::new();
    for (msg_type, content) in [
        ("kernel_info_request", json!({})),
        ("execute_request", execute(code, json!({}))),
        ("complete_request", json!({"code": code, "cursor_pos": 1})),
        (
            "inspect_request",
            json!({"code": code, "cursor_pos": 1, "detail_level": 0}),
        ),
        ("is_complete_request", json!({ "code": code })),
        ("comm_info_request", json!({})),
        (
            "history_request",
            json!({"hist_access_type": "tail", "n": 1, "output": false, "raw": true}),
        ),
    ] {
        sent.push(subject.peer.send(Channel::Shell, msg_type, content).await?);
    }
    let peer = &mut subject.peer;
    for request in &sent {
        peer.done(request).await?;
    }
    // By its answer, what came too late has come.
    peer.fence(Channel::Shell).await?;
    for request in &sent {
        states(&peer.log, request)?;
    }
    Ok(String::new())
}

async fn states_on_control(subject: &mut Subject) -> Outcome {
    let asked = subject.peer.fence(Channel::Control).await?;
    states(&subject.peer.log, &asked)
}

/// Busy, anything else, idle.
pub(super) fn states(log: &Log, request: &Request) -> Outcome {
    // The debugger tells of what happens to the code, not to the request.
    let published = log.published(request);
    let published: Vec<_> = published
        .filter(|heard| heard.msg_type() != "debug_event")
        .collect();
    let count = |state| {
        let of = published
            .iter()
            .filter(|heard| heard.state() == Some(state));
        of.count()
    };
    let right = published
        .first()
        .is_some_and(|first| first.state() == Some("busy"))
        && published
            .last()
            .is_some_and(|last| last.state() == Some("idle"))
        && (count("busy"), count("idle")) == (1, 1);
    match right {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "for the {}, {}",
            request.msg_type(),
            log.told(request)
        ))),
    }
}

async fn on_control(subject: &mut Subject) -> Outcome {
    let asked = subject.peer.fence(Channel::Control).await?;
    let reply = subject.peer.log.reply(&asked)?;
    match reply.content["implementation"] == subject.info["implementation"] {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!("{}", reply.content))),
    }
}

async fn welcome(subject: &mut Subject) -> Outcome {
    match is_welcomed(&mut subject.peer).await? {
        true => Ok(String::new()),
        false => Err(Flaw::unsupported("none came")),
    }
}

async fn second_welcome(subject: &mut Subject) -> Outcome {
    if !subject.peer.observed.welcomed {
        return Err(Flaw::unsupported("the first got none"));
    }
    let mut second = subject.another().await?;
    match is_welcomed(&mut second).await? {
        true => Ok(String::new()),
        false => Err(Flaw::seen("the second got none")),
    }
}

/// Whether a client's subscription is, or was, answered. By the reply to a later request that should be so.
async fn is_welcomed(peer: &mut Peer) -> Result<bool, Flaw> {
    peer.fence(Channel::Shell).await?;
    if !peer.observed.welcomed {
        let welcome = |log: &Log| {
            log.0
                .iter()
                .any(|heard| heard.msg_type() == "iopub_welcome")
        };
        peer.until_within(LATE, welcome).await?;
    }
    Ok(peer.observed.welcomed)
}

async fn connect(subject: &mut Subject) -> Outcome {
    let peer = &mut subject.peer;
    let asked = peer
        .ask(Channel::Shell, "connect_request", json!({}))
        .await?;
    if !peer.log.is_replied(&asked) {
        return Err(Flaw::unsupported("no reply"));
    }
    let reply = peer.log.reply(&asked)?;
    let shell = u64::from(subject.connection.shell_port);
    match reply.content["shell_port"].as_u64() {
        Some(port) if port == shell => Ok(String::new()),
        _ => match reply.content["status"].as_str() {
            Some("error") => Err(Flaw::unsupported("the reply is an error")),
            _ => Err(Flaw::seen(format!("{}", reply.content))),
        },
    }
}

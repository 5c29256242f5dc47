//! What works while code runs: control, interrupts, the heartbeat, subshells, the debugger.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::execution::{any, is_ok};
use super::heard::{Log, Request};
use super::information::states;
use super::peer::{execute, frame};
use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::isolation::Signal;
use crate::protocol::{Channel, InterruptMode};
use crate::transport::Heartbeat;

/// The longest that a heartbeat may take.
const BEAT: Duration = Duration::from_secs(2);
/// How long code that has printed goes on alone before it is interrupted: some kernels lose an interrupt that meets
/// their printing.
const SETTLED: Duration = Duration::from_millis(200);

family! { "control";
    "the heartbeat is echoed" =>
        "what was sent, byte for byte", heartbeat;
    "the heartbeat is echoed while code runs" =>
        "what was sent, byte for byte, before the cell has ended", heartbeat_while_busy;
    "control answers while code runs" =>
        "a kernel_info_reply on control before the cell has ended", while_busy;
    "an interrupt ends the running code" =>
        "by SIGINT or interrupt_request, as kernel.json says, execute_reply with status error, and idle", interrupt;
    "interrupt_request is answered" =>
        "an interrupt_reply with status ok, on control", interrupt_reply;
    "code runs after an interrupt" =>
        "the next request is ok", after_interrupt;
    "a subshell runs while the main shell is busy" =>
        "create_subshell_reply with an id; a request with it in its header is answered before the main shell's cell \
         has ended (JEP 91)", subshell;
    "subshells are listed and deleted" =>
        "the id in list_subshell_reply, no longer so after delete_subshell_request", subshell_list;
    "debugInfo is answered" =>
        "a debug_reply to the request debugInfo, with success true and a body", debug_info;
    "debugging can be initialized" =>
        "a debug_reply to the request initialize, with success true", debug_initialize;
    "usage_request is answered" =>
        "a usage_reply; an addition of ipykernel's", usage;
}

async fn heartbeat(subject: &mut Subject) -> Outcome {
    let deadline = Instant::now() + BEAT;
    let address = subject.connection.address(Channel::Heartbeat);
    let lost = |error: crate::transport::TransportError| Flaw::seen(error.to_string());
    let mut heart = Heartbeat::connect(address, deadline).await.map_err(lost)?;
    for beat in 1..=3 {
        if !heart.beat(BEAT).await.map_err(lost)? {
            return Err(Flaw::seen(format!("beat {beat} was not echoed")));
        }
    }
    Ok(String::new())
}

/// Starts code that takes a while, and waits until it runs.
async fn begin(subject: &mut Subject, code: &str) -> Result<Request, Flaw> {
    let peer = &mut subject.peer;
    let content = execute(code, json!({}));
    let ran = peer
        .send(Channel::Shell, "execute_request", content)
        .await?;
    let begun = peer
        .until(|log| log.printed(&ran, "stdout").contains("begun") || log.is_replied(&ran))
        .await?;
    match begun && !peer.log.is_replied(&ran) {
        true => Ok(ran),
        false => Err(Flaw::seen(format!(
            "nothing was printed while the cell ran: {}",
            peer.log.told(&ran)
        ))),
    }
}

async fn heartbeat_while_busy(subject: &mut Subject) -> Outcome {
    let code = subject.code("takes a moment", |sample| sample.nap)?;
    let ran = begin(subject, code).await?;
    let outcome = heartbeat(subject).await;
    subject.peer.take_waiting();
    let late = subject.peer.log.is_replied(&ran);
    subject.peer.done(&ran).await?;
    match late {
        true => Err(Flaw::seen("echoed after the cell had ended")),
        false => outcome,
    }
}

async fn while_busy(subject: &mut Subject) -> Outcome {
    let code = subject.code("takes a moment", |sample| sample.nap)?;
    let ran = begin(subject, code).await?;
    let peer = &mut subject.peer;
    let content = json!({});
    let asked = peer
        .send(Channel::Control, "kernel_info_request", content)
        .await?;
    peer.until(|log| log.is_replied(&asked)).await?;
    peer.log.reply(&asked)?;
    let late = peer.log.is_replied(&ran);
    peer.done(&ran).await?;
    is_ok(&peer.log, &ran)?;
    match late {
        false => Ok(String::new()),
        true => Err(Flaw::seen("answered after the cell had ended")),
    }
}

async fn interrupt(subject: &mut Subject) -> Outcome {
    let code = subject.code("takes long", |sample| sample.sleep)?;
    let ran = begin(subject, code).await?;
    let ended = |log: &Log| log.is_replied(&ran);
    subject.peer.until_within(SETTLED, ended).await?;
    let mode = subject.interrupt_mode();
    let way = match (mode, &subject.kernel) {
        (Some(InterruptMode::Signal), Some(kernel)) => {
            kernel.process().signal(Signal::Interrupt);
            "SIGINT"
        }
        _ => {
            let peer = &mut subject.peer;
            peer.send(Channel::Control, "interrupt_request", json!({}))
                .await?;
            "interrupt_request"
        }
    };
    let peer = &mut subject.peer;
    if !peer.until(ended).await? {
        return Err(Flaw::seen(format!("the code went on after {way}")));
    }
    peer.done(&ran).await?;
    let reply = peer.log.reply(&ran)?;
    states(&peer.log, &ran)?;
    match reply.content["status"] == "error" {
        true => Ok(format!("{way}: {}", reply.text("ename")?)),
        false => Err(Flaw::seen(format!("{way}: the reply is {}", reply.content))),
    }
}

async fn interrupt_reply(subject: &mut Subject) -> Outcome {
    let mode = subject.interrupt_mode();
    let peer = &mut subject.peer;
    let asked = peer
        .ask(Channel::Control, "interrupt_request", json!({}))
        .await?;
    if mode != Some(InterruptMode::Message) && !peer.log.is_replied(&asked) {
        return Err(Flaw::unsupported(
            "no reply, and kernel.json does not name this way",
        ));
    }
    let reply = peer.log.reply(&asked)?;
    match reply.content["status"] == "ok" {
        true => Ok(String::new()),
        false => Err(Flaw::seen(reply.content.to_string())),
    }
}

async fn after_interrupt(subject: &mut Subject) -> Outcome {
    let code = any(subject)?;
    let ran = subject.peer.run(code).await?;
    is_ok(&subject.peer.log, &ran)?;
    Ok(String::new())
}

/// A new subshell's id.
async fn new_subshell(subject: &mut Subject) -> Result<String, Flaw> {
    if !subject.supports("kernel subshells") {
        return Err(Flaw::unsupported(
            "the kernel does not announce `kernel subshells`",
        ));
    }
    let peer = &mut subject.peer;
    let asked = peer
        .ask(Channel::Control, "create_subshell_request", json!({}))
        .await?;
    let reply = peer.log.reply(&asked)?;
    match reply.content["status"] == "ok" {
        true => reply.text("subshell_id").map(str::to_owned),
        false => Err(Flaw::seen(reply.content.to_string())),
    }
}

async fn delete_subshell(subject: &mut Subject, id: &str) -> Result<(), Flaw> {
    let peer = &mut subject.peer;
    let content = json!({ "subshell_id": id });
    let asked = peer
        .ask(Channel::Control, "delete_subshell_request", content)
        .await?;
    is_ok(&peer.log, &asked)
}

async fn subshell(subject: &mut Subject) -> Outcome {
    let nap = subject.code("takes a moment", |sample| sample.nap)?;
    let code = any(subject)?;
    let id = new_subshell(subject).await?;
    let ran = begin(subject, nap).await?;
    let peer = &mut subject.peer;
    let content = execute(code, json!({}));
    let (mut beside, mut raw) = peer.make(Channel::Shell, "execute_request", &content);
    beside.header["subshell_id"] = json!(id);
    raw.header = frame(&beside.header);
    peer.signer.sign(&mut raw);
    peer.send_frames(Channel::Shell, raw.into_frames()).await?;
    peer.done(&beside).await?;
    let late = peer.log.is_replied(&ran);
    peer.done(&ran).await?;
    is_ok(&peer.log, &beside)?;
    delete_subshell(subject, &id).await?;
    match late {
        false => Ok(String::new()),
        true => Err(Flaw::seen("answered after the main shell's cell had ended")),
    }
}

async fn subshell_list(subject: &mut Subject) -> Outcome {
    let id = new_subshell(subject).await?;
    let mut listed = Vec::new();
    for delete in [false, true] {
        if delete {
            delete_subshell(subject, &id).await?;
        }
        let peer = &mut subject.peer;
        let asked = peer
            .ask(Channel::Control, "list_subshell_request", json!({}))
            .await?;
        let ids = peer.log.reply(&asked)?.list("subshell_id")?;
        listed.push(ids.iter().any(|of_list| *of_list == id));
    }
    match listed == [true, false] {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "listed before its end: {}, after: {}",
            listed[0], listed[1]
        ))),
    }
}

async fn debug(subject: &mut Subject, command: &str, arguments: serde_json::Value) -> Outcome {
    if !subject.supports("debugger") {
        return Err(Flaw::unsupported("the kernel does not announce a debugger"));
    }
    let peer = &mut subject.peer;
    let content = json!({"type": "request", "seq": 1, "command": command, "arguments": arguments});
    let asked = peer.ask(Channel::Control, "debug_request", content).await?;
    let reply = peer.log.reply(&asked)?;
    states(&peer.log, &asked)?;
    match reply.content["success"] == true && reply.content["body"].is_object() {
        true => Ok(String::new()),
        false => Err(Flaw::seen(reply.content.to_string())),
    }
}

async fn debug_info(subject: &mut Subject) -> Outcome {
    debug(subject, "debugInfo", json!({})).await
}

async fn debug_initialize(subject: &mut Subject) -> Outcome {
    let arguments = json!({
        "clientID": "heddle", "clientName": "heddle", "adapterID": "", "pathFormat": "path",
        "linesStartAt1": true, "columnsStartAt1": true
    });
    debug(subject, "initialize", arguments).await
}

async fn usage(subject: &mut Subject) -> Outcome {
    let peer = &mut subject.peer;
    let asked = peer
        .ask(Channel::Control, "usage_request", json!({}))
        .await?;
    if !peer.log.is_replied(&asked) {
        return Err(Flaw::unsupported("no reply"));
    }
    let reply = peer.log.reply(&asked)?;
    match reply.content.is_object() {
        true => Ok(String::new()),
        false => Err(Flaw::seen(reply.content.to_string())),
    }
}

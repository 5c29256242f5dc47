//! Comms: objects that live on both sides.

use bytes::Bytes;
use serde_json::{Value, json};

use super::execution::is_ok;
use super::heard::Request;
use super::information::states;
use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::protocol::Channel;

family! { "comms";
    "comm_info_request lists comms" =>
        "a comm_info_reply with comms as an object", info;
    "comm_open of an unknown target is closed" =>
        "a comm_close with the same comm_id", unknown_target;
    "a comm_msg to nobody is borne" =>
        "busy, idle, and a kernel that goes on", unknown_comm;
    "a comm carries data and buffers both ways" =>
        "the answer of a comm that was opened by us, with its binary buffers, and the comm in comm_info", both_ways;
    "the kernel opens a comm" =>
        "a comm_open on iopub with comm_id, target_name, data and its buffer, with the cell as parent", opened;
}

/// Sends a message that has no reply, with buffers, and waits for its `idle`.
async fn tell(
    subject: &mut Subject,
    msg_type: &str,
    content: Value,
    buffers: Vec<Bytes>,
) -> Result<Request, Flaw> {
    let peer = &mut subject.peer;
    let (request, mut raw) = peer.make(Channel::Shell, msg_type, &content);
    raw.buffers = buffers;
    peer.send_frames(Channel::Shell, raw.into_frames()).await?;
    peer.until(|log| log.is_idle(&request)).await?;
    Ok(request)
}

async fn comms(subject: &mut Subject) -> Result<serde_json::Map<String, Value>, Flaw> {
    let peer = &mut subject.peer;
    let asked = peer
        .ask(Channel::Shell, "comm_info_request", json!({}))
        .await?;
    let reply = peer.log.reply(&asked)?;
    if reply.content["status"] != "ok" {
        return Err(Flaw::seen(reply.content.to_string()));
    }
    reply.object("comms").cloned()
}

async fn info(subject: &mut Subject) -> Outcome {
    comms(subject)
        .await
        .map(|comms| format!("{} comms", comms.len()))
}

async fn unknown_target(subject: &mut Subject) -> Outcome {
    let content = json!({"comm_id": "heddle-1", "target_name": "heddle-unknown", "data": {}});
    let opened = tell(subject, "comm_open", content, Vec::new()).await?;
    states(&subject.peer.log, &opened)?;
    let closed = subject.peer.published(&opened, "comm_close").await?;
    match closed.content["comm_id"] == "heddle-1" {
        true => Ok(String::new()),
        false => Err(Flaw::seen(closed.content.to_string())),
    }
}

async fn unknown_comm(subject: &mut Subject) -> Outcome {
    let content = json!({"comm_id": "heddle-2", "data": {}});
    let told = tell(subject, "comm_msg", content, Vec::new()).await?;
    states(&subject.peer.log, &told)?;
    subject.peer.fence(Channel::Shell).await?;
    Ok(String::new())
}

async fn both_ways(subject: &mut Subject) -> Outcome {
    let target = subject.code("makes a comm target", |sample| sample.comm_target)?;
    let ran = subject.peer.run(target).await?;
    is_ok(&subject.peer.log, &ran)?;
    let content = json!({"comm_id": "heddle-3", "target_name": "heddle-conform", "data": {}});
    let opened = tell(subject, "comm_open", content, Vec::new()).await?;
    states(&subject.peer.log, &opened)?;
    let listed = comms(subject).await?;
    if listed.get("heddle-3").map(|comm| &comm["target_name"]) != Some(&json!("heddle-conform")) {
        return Err(Flaw::seen(format!(
            "comm_info has {}",
            Value::Object(listed)
        )));
    }
    let content = json!({"comm_id": "heddle-3", "data": {"n": 1}});
    let buffers = vec![Bytes::from_static(b"\x00\xff"), Bytes::new()];
    let told = tell(subject, "comm_msg", content, buffers).await?;
    let answer = subject.peer.published(&told, "comm_msg").await?;
    let right = answer.content["data"] == json!({"got": {"n": 1}})
        && answer.buffers == [&b"\x00\xff\x00\xff"[..], &b""[..]];
    if !right {
        let sizes: Vec<_> = answer.buffers.iter().map(Bytes::len).collect();
        return Err(Flaw::seen(format!(
            "{} with buffers of {sizes:?} bytes",
            answer.content
        )));
    }
    let content = json!({"comm_id": "heddle-3", "data": {}});
    tell(subject, "comm_close", content, Vec::new()).await?;
    match comms(subject).await?.contains_key("heddle-3") {
        false => Ok(String::new()),
        true => Err(Flaw::seen("it is still listed after its comm_close")),
    }
}

async fn opened(subject: &mut Subject) -> Outcome {
    let code = subject.code("opens a comm", |sample| sample.comm_open)?;
    let ran = subject.peer.run(code).await?;
    let comm = subject.peer.published(&ran, "comm_open").await?;
    comm.text("comm_id")?;
    let right = comm.content["target_name"] == "heddle-front-end"
        && comm.content["data"] == json!({"n": 1})
        && comm.buffers == [&b"\x00\xff"[..]];
    match right {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{} with {} buffers",
            comm.content,
            comm.buffers.len()
        ))),
    }
}

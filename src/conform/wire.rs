//! Signatures, headers, parents and identities; unknown messages.

use bytes::Bytes;
use serde_json::json;

use super::heard::Request;
use super::observed::Rule;
use super::peer::frame;
use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::protocol::{Channel, RawMessage, Signer};

family! { "wire";
    "a forged message is not answered" =>
        "no reply and nothing published for a request that was signed with another key", forged;
    "an unsigned message is not answered" =>
        "no reply and nothing published for a request with an empty signature", unsigned;
    "an altered message is not answered" =>
        "no reply and nothing published for a request whose content was changed after it was signed", altered;
    "a replayed message is not answered" =>
        "one reply to a request that was sent twice, byte for byte", replayed;
    "a forged message on control is not answered" =>
        "no reply and nothing published", forged_on_control;
    "signatures verify" =>
        "the HMAC of the four frames, in lower-case hex, on every message of the kernel's", signatures;
    "no signature comes twice" =>
        "each message of the kernel's with a signature of its own", no_replay;
    "frames are JSON objects" =>
        "header, parent_header, metadata and content of every message", json_objects;
    "headers are complete" =>
        "msg_id, session, username, date, msg_type and version, as text, in every message", headers;
    "dates have a zone" =>
        "ISO 8601 with a time zone in every header", dates;
    "msg_ids are unique" =>
        "a msg_id of its own in every header", msg_ids;
    "session names the kernel" =>
        "one session in the headers of one kernel, which is not its client's", session;
    "parent_header is the request's header" =>
        "a copy of the header of the request, in replies and in what is published for it", parents;
    "replies have the type and the channel of their request" =>
        "x_reply for x_request, on the same channel", reply_types;
    "a reply goes to the client that asked" =>
        "nothing on the shell of another client", routing;
    "an unknown msg_type is borne" =>
        "no message but busy and idle, and a kernel that goes on", unknown_type;
    "unknown fields are ignored" =>
        "a reply as without them", unknown_fields;
}

/// Sends a message that was spoiled, then a good one; by the latter's answer the former's would have come.
async fn unanswered(
    subject: &mut Subject,
    channel: Channel,
    spoil: impl FnOnce(&mut RawMessage),
) -> Outcome {
    let peer = &mut subject.peer;
    if !peer.signer.is_signing() {
        return Err(Flaw::unsupported("the connection file has no key"));
    }
    let (request, mut raw) = peer.make(channel, "kernel_info_request", &json!({}));
    spoil(&mut raw);
    peer.send_frames(channel, raw.into_frames()).await?;
    quiet_about(subject, channel, &request).await
}

/// That nothing comes for a request by the time that a later one is answered.
async fn quiet_about(subject: &mut Subject, channel: Channel, request: &Request) -> Outcome {
    let peer = &mut subject.peer;
    peer.fence(channel).await?;
    let answered = peer.log.0.iter().any(|heard| heard.is_child_of(request));
    match answered {
        false => Ok(String::new()),
        true => Err(Flaw::seen(peer.log.told(request))),
    }
}

fn sign_with_another_key(raw: &mut RawMessage) {
    // The scheme is known and the key not empty, so it is a signature, and a wrong one.
    if let Ok(signer) = Signer::new("hmac-sha256", b"another key") {
        signer.sign(raw);
    }
}

async fn forged(subject: &mut Subject) -> Outcome {
    unanswered(subject, Channel::Shell, sign_with_another_key).await
}

async fn forged_on_control(subject: &mut Subject) -> Outcome {
    unanswered(subject, Channel::Control, sign_with_another_key).await
}

async fn unsigned(subject: &mut Subject) -> Outcome {
    unanswered(subject, Channel::Shell, |raw| raw.signature = Bytes::new()).await
}

async fn altered(subject: &mut Subject) -> Outcome {
    unanswered(subject, Channel::Shell, |raw| {
        raw.content = Bytes::from_static(b"{\"altered\": true}");
    })
    .await
}

async fn replayed(subject: &mut Subject) -> Outcome {
    let peer = &mut subject.peer;
    if !peer.signer.is_signing() {
        return Err(Flaw::unsupported("the connection file has no key"));
    }
    let (request, raw) = peer.make(Channel::Shell, "kernel_info_request", &json!({}));
    for _ in 0..2 {
        peer.send_frames(Channel::Shell, raw.clone().into_frames())
            .await?;
    }
    peer.fence(Channel::Shell).await?;
    match peer.log.on(Channel::Shell, &request).count() {
        1 => Ok(String::new()),
        0 => Err(Flaw::seen("no reply at all")),
        more => Err(Flaw::seen(format!("{more} replies"))),
    }
}

async fn signatures(subject: &mut Subject) -> Outcome {
    if !subject.peer.signer.is_signing() {
        return Err(Flaw::unsupported("the connection file has no key"));
    }
    subject.peer.observed.outcome(Rule::Signature)
}

async fn no_replay(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::Replay)
}

async fn json_objects(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::Json)
}

async fn headers(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::Header)
}

async fn dates(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::Date)
}

async fn msg_ids(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::MsgId)
}

async fn parents(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::Parent)
}

async fn reply_types(subject: &mut Subject) -> Outcome {
    subject.peer.observed.outcome(Rule::ReplyType)
}

async fn session(subject: &mut Subject) -> Outcome {
    let peer = &mut subject.peer;
    peer.fence(Channel::Shell).await?;
    let mut sessions: Vec<_> = peer
        .log
        .0
        .iter()
        .filter_map(|heard| heard.header["session"].as_str())
        .collect();
    sessions.sort_unstable();
    sessions.dedup();
    match sessions[..] {
        [] => Err(Flaw::seen("nothing came")),
        [one] if one == peer.session => Err(Flaw::seen("the session is the client's")),
        [_] => Ok(String::new()),
        _ if sessions.contains(&peer.session.as_str()) => {
            Err(Flaw::seen("some headers have the session of the client"))
        }
        _ => Err(Flaw::seen(format!("{} sessions", sessions.len()))),
    }
}

async fn routing(subject: &mut Subject) -> Outcome {
    let mut other = subject.another().await?;
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(subject.peer.fence(Channel::Shell).await?);
        asked.push(other.fence(Channel::Shell).await?);
    }
    other.take_waiting();
    subject.peer.take_waiting();
    for (number, request) in asked.iter().enumerate() {
        let (right, wrong) = match number % 2 {
            0 => (&subject.peer.log, &other.log),
            _ => (&other.log, &subject.peer.log),
        };
        if !right.is_replied(request) || wrong.is_replied(request) {
            return Err(Flaw::seen("a reply went to the other client"));
        }
    }
    Ok(String::new())
}

async fn unknown_type(subject: &mut Subject) -> Outcome {
    for channel in [Channel::Shell, Channel::Control] {
        let peer = &mut subject.peer;
        let sent = peer
            .send(channel, "heddle_unknown_request", json!({}))
            .await?;
        peer.fence(channel).await?;
        let mut heard = peer.log.0.iter().filter(|heard| heard.is_child_of(&sent));
        // An error reply is a word to the client, and no harm.
        let other =
            heard.find(|heard| heard.state().is_none() && heard.content["status"] != "error");
        if let Some(other) = other {
            let (msg_type, content) = (other.msg_type(), &other.content);
            return Err(Flaw::seen(format!(
                "{msg_type} {content} on {}",
                channel.name()
            )));
        }
    }
    Ok(String::new())
}

async fn unknown_fields(subject: &mut Subject) -> Outcome {
    let peer = &mut subject.peer;
    let content = json!({"heddle": {"deep": [null, 1.5]}});
    let (mut request, mut raw) = peer.make(Channel::Shell, "kernel_info_request", &content);
    request.header["heddle"] = json!([1, {"more": "é"}]);
    raw.header = frame(&request.header);
    raw.metadata = frame(&json!({"heddle": "x"}));
    peer.signer.sign(&mut raw);
    peer.send_frames(Channel::Shell, raw.into_frames()).await?;
    peer.done(&request).await?;
    peer.log.reply(&request)?;
    Ok(String::new())
}

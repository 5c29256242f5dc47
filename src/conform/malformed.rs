//! Messages that are none: a kernel drops them and goes on.

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::protocol::frames::DELIMITER;
use crate::protocol::{Address, Channel, RawMessage};
use crate::transport::Frames;

family! { "malformed messages";
    "frames without a delimiter are dropped" =>
        "no reply, and a kernel that goes on", no_delimiter;
    "a message of too few frames is dropped" =>
        "no reply, and a kernel that goes on, where the message ends after the delimiter, the signature, the header …",
        too_few_frames;
    "a message of empty frames is dropped" =>
        "no reply, and a kernel that goes on, where the signature and all four frames are empty", empty_frames;
    "a header that is no JSON is dropped" =>
        "no reply, and a kernel that goes on, after signed headers that are cut off, no object, not UTF-8, without \
         fields", bad_header;
    "content that is no JSON is dropped" =>
        "a kernel that goes on after signed content that is cut off, no object, not UTF-8", bad_content;
    "content of wrong types is borne" =>
        "a kernel that goes on after requests whose fields have other types than they should", wrong_types;
    "deeply nested JSON is borne" =>
        "a kernel that goes on after content of 100 000 brackets", deep;
    "a frame of a claimed 5 TB is borne" =>
        "a kernel that goes on, for its other clients, after a ZMTP frame header with that length", huge_length;
    "bytes that are no ZMTP are borne" =>
        "a kernel that goes on after a connection that speaks another protocol", no_zmtp;
}

/// Sends frames that mean nothing, each list as one message, and sees that the kernel goes on.
async fn goes_on(subject: &mut Subject, messages: Vec<Frames>) -> Outcome {
    subject.own()?;
    let peer = &mut subject.peer;
    for frames in messages {
        peer.send_frames(Channel::Shell, frames).await?;
    }
    let before = peer.log.0.len();
    let asked = peer.fence(Channel::Shell).await?;
    let mut replies = peer.log.0[before..]
        .iter()
        .filter(|heard| heard.channel == Channel::Shell);
    match replies.find(|reply| !reply.is_child_of(&asked)) {
        None => Ok(String::new()),
        Some(reply) => Err(Flaw::seen(format!(
            "it was answered by a {}",
            reply.msg_type()
        ))),
    }
}

fn frames(parts: &[&[u8]]) -> Frames {
    parts
        .iter()
        .map(|part| Bytes::copy_from_slice(part))
        .collect()
}

async fn no_delimiter(subject: &mut Subject) -> Outcome {
    let messages = [
        frames(&[b""]),
        frames(&[b"hello"]),
        frames(&[b"sig", b"{}", b"{}", b"{}", b"{}"]),
    ];
    goes_on(subject, messages.into()).await
}

async fn too_few_frames(subject: &mut Subject) -> Outcome {
    let parts: [&[u8]; 5] = [DELIMITER, b"00", b"{}", b"{}", b"{}"];
    let messages = (1..=parts.len()).map(|count| frames(&parts[..count]));
    goes_on(subject, messages.collect()).await
}

async fn empty_frames(subject: &mut Subject) -> Outcome {
    goes_on(subject, vec![frames(&[DELIMITER, b"", b"", b"", b"", b""])]).await
}

/// Requests with each of these in place of one frame, signed.
fn with(
    subject: &mut Subject,
    parts: &[&[u8]],
    place: fn(&mut RawMessage) -> &mut Bytes,
) -> Vec<Frames> {
    let peer = &mut subject.peer;
    let spoilt = parts.iter().map(|part| {
        let (_, mut raw) = peer.make(Channel::Shell, "kernel_info_request", &json!({}));
        *place(&mut raw) = Bytes::copy_from_slice(part);
        peer.signer.sign(&mut raw);
        raw.into_frames()
    });
    spoilt.collect()
}

async fn bad_header(subject: &mut Subject) -> Outcome {
    let parts: [&[u8]; 6] = [b"{\"msg_id\": ", b"[]", b"3", b"null", b"\xff\xfe", b"{}"];
    let messages = with(subject, &parts, |raw| &mut raw.header);
    goes_on(subject, messages).await
}

async fn bad_content(subject: &mut Subject) -> Outcome {
    subject.own()?;
    let parts: [&[u8]; 4] = [b"{\"code\": ", b"[]", b"\"text\"", b"\xff\xfe"];
    let messages = with(subject, &parts, |raw| &mut raw.content);
    for frames in messages {
        subject.peer.send_frames(Channel::Shell, frames).await?;
    }
    // Some kernels never look at the content of a kernel_info_request, and may answer.
    subject.peer.fence(Channel::Shell).await?;
    Ok(String::new())
}

async fn wrong_types(subject: &mut Subject) -> Outcome {
    subject.own()?;
    for (msg_type, content) in [
        ("execute_request", json!({"code": 7, "silent": "no"})),
        (
            "execute_request",
            json!({"code": "", "user_expressions": [1], "silent": true}),
        ),
        ("execute_request", json!({})),
        ("complete_request", json!({"code": [], "cursor_pos": -1})),
        (
            "complete_request",
            json!({"code": "x", "cursor_pos": 1_000_000}),
        ),
        (
            "inspect_request",
            json!({"code": "x", "cursor_pos": "end", "detail_level": 1e300}),
        ),
        ("is_complete_request", json!({"code": null})),
        ("history_request", json!({"hist_access_type": "never"})),
        ("comm_info_request", json!({"target_name": {}})),
        ("comm_open", json!({"comm_id": 1})),
        ("comm_msg", json!({"comm_id": []})),
    ] {
        subject.peer.send(Channel::Shell, msg_type, content).await?;
    }
    subject.peer.fence(Channel::Shell).await?;
    Ok(String::new())
}

async fn deep(subject: &mut Subject) -> Outcome {
    subject.own()?;
    let brackets = b"[".repeat(100_000);
    let whole = [
        b"{\"code\":".as_slice(),
        &brackets,
        &b"]".repeat(100_000),
        b"}",
    ]
    .concat();
    let messages = with(subject, &[&brackets, &whole], |raw| &mut raw.content);
    for frames in messages {
        subject.peer.send_frames(Channel::Shell, frames).await?;
    }
    subject.peer.fence(Channel::Shell).await?;
    Ok(String::new())
}

/// What speaks raw bytes to the shell channel.
async fn speak(subject: &mut Subject, bytes: &[u8]) -> Outcome {
    async fn exchange(
        mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        stream.write_all(bytes).await?;
        // To its greeting, so that it has begun to listen.
        stream.read_exact(&mut [0; 1]).await?;
        Ok(())
    }
    subject.own()?;
    // That it closes the connection is what it should do.
    let _ = match subject.connection.address(Channel::Shell) {
        Address::Tcp(host, port) => match TcpStream::connect((host, port)).await {
            Ok(stream) => exchange(stream, bytes).await,
            Err(error) => return Err(Flaw::seen(error.to_string())),
        },
        Address::Ipc(path) => match UnixStream::connect(path).await {
            Ok(stream) => exchange(stream, bytes).await,
            Err(error) => return Err(Flaw::seen(error.to_string())),
        },
    };
    subject.peer.fence(Channel::Shell).await?;
    // It may be busy with what was claimed: once more, by then it has read it.
    subject.peer.fence(Channel::Shell).await?;
    Ok(String::new())
}

/// A greeting, a READY and the header of a frame (ZMTP 3.0, RFC 23).
async fn huge_length(subject: &mut Subject) -> Outcome {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";
    bytes.extend([4, ready.len() as u8]);
    bytes.extend(ready);
    bytes.push(2);
    bytes.extend((5_u64 << 40).to_be_bytes());
    bytes.extend(b"and a few bytes of it");
    speak(subject, &bytes).await
}

async fn no_zmtp(subject: &mut Subject) -> Outcome {
    speak(subject, b"GET / HTTP/1.1\r\nHost: kernel\r\n\r\n").await
}

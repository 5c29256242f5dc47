//! ZMTP byte by byte: peers that do what no library would let them.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub const MORE: u8 = 1;
pub const LONG: u8 = 2;
pub const COMMAND: u8 = 4;

/// The greeting of ZMTP 3.0 with the NULL mechanism.
pub fn greeting() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// The command that ends the handshake.
pub fn ready(socket_type: &str, identity: &str) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", socket_type), ("Identity", identity)] {
        body.push(name.len() as u8);
        body.extend(name.as_bytes());
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    frame(COMMAND, &body)
}

pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(flags, body.len() as u64);
    bytes.extend(body);
    bytes
}

/// A frame's header alone, whatever length it claims.
pub fn header(flags: u8, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    match u8::try_from(length) {
        Ok(length) => bytes.extend([flags, length]),
        Err(_) => {
            bytes.push(flags | LONG);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// Greets and shakes hands, as a client or as a kernel.
pub async fn shake<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, socket_type: &str) {
    stream.write_all(&greeting()).await.unwrap();
    let mut peer = [0; 64];
    stream.read_exact(&mut peer).await.unwrap();
    stream.write_all(&ready(socket_type, "")).await.unwrap();
    read_frame(stream).await.expect("its READY");
}

/// The next frame: its flags and body; `None` at the end.
pub async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(u8, Vec<u8>)> {
    let flags = stream.read_u8().await.ok()?;
    let length = match flags & LONG {
        0 => u64::from(stream.read_u8().await.ok()?),
        _ => stream.read_u64().await.ok()?,
    };
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some((flags, body))
}

/// The next message's frames; `None` at the end.
pub async fn read_message<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    loop {
        let (flags, body) = read_frame(stream).await?;
        frames.push(body);
        if flags & MORE == 0 {
            return Some(frames);
        }
    }
}

/// Whether the peer closes the connection within `limit`; what it still sends is thrown away.
pub async fn closes<S: AsyncRead + Unpin>(stream: &mut S, limit: Duration) -> bool {
    let mut chunk = [0; 4096];
    let end = async { while let Ok(1..) = stream.read(&mut chunk).await {} };
    tokio::time::timeout(limit, end).await.is_ok()
}

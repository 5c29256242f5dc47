//! What can be wrong with a message, a connection file or a `kernel.json`.

use thiserror::Error;

/// Why bytes or settings were refused. No variant carries a key, or the content of a message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The frames are not a Jupyter message at all.
    #[error(
        "no `<IDS|MSG>` delimiter among {frames} frames: the sender does not speak the Jupyter protocol"
    )]
    NoDelimiter { frames: usize },

    /// The delimiter is there, the signature and the four dictionaries are not.
    #[error("the message ends after {frames} of the 5 frames that follow `<IDS|MSG>`")]
    TooFewFrames { frames: usize },

    /// A frame that has to be a JSON object is something else.
    #[error("the {frame} of the message is not the JSON object it should be: {source}")]
    Frame {
        /// `header`, `parent_header` or `metadata`.
        frame: &'static str,
        source: serde_json::Error,
    },

    /// `signature_scheme` names a digest that is not implemented.
    #[error(
        "signature scheme `{scheme}` is not supported; use hmac-sha256 (or hmac-sha224, hmac-sha384, hmac-sha512)"
    )]
    UnknownScheme { scheme: String },

    /// The message was not made by a holder of the key, or was changed on its way.
    #[error("the signature of the message does not match its frames: wrong key, or altered")]
    BadSignature,

    /// A message with this signature has been taken already.
    #[error("the signature of the message was seen before: a repeated message is refused")]
    Replayed,

    /// The connection file is not JSON, or lacks a field.
    #[error("the connection file cannot be read: {0}; let the kernel's launcher write it again")]
    ConnectionFile(serde_json::Error),

    /// The connection file asks for an encrypted transport.
    #[error(
        "the connection file has `{field}`, but CURVE encryption is not supported; start the kernel without it \
         and use `\"transport\": \"ipc\"`, or tcp on a loopback address"
    )]
    Curve { field: &'static str },

    /// Two channels share a port, or a port is none.
    #[error("the connection file gives {channel} the port {port}, which {reason}")]
    Port {
        channel: &'static str,
        port: u16,
        reason: &'static str,
    },

    /// A socket file could not be made at this path on any system call.
    #[error(
        "the socket path `{path}` has {length} bytes and the system allows {limit}; use a shorter directory"
    )]
    IpcPathTooLong {
        path: String,
        length: usize,
        limit: usize,
    },

    /// `kernel.json` is not JSON, or a field has another type than it should.
    #[error("kernel.json cannot be read: {0}")]
    KernelSpec(serde_json::Error),
}

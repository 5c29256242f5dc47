//! Jupyter messages: framing, signing, content types. Pure, no I/O.
//!
//! # Layout
//! - [`frames`]: a message as ZeroMQ frames; peek at it, pass it on untouched
//! - [`signing`]: sign, verify, refuse a message that was seen before
//! - [`header`]: the header of a message
//! - [`content`]: one type for each message type, by family
//! - [`message`]: a decoded message, its replies and its children
//! - [`connection`]: the connection file and the addresses it names
//! - [`kernelspec`]: the file `kernel.json`
//! - [`error`]: what can be wrong with any of them
//!
//! A relay needs [`frames`] and [`signing`] alone: frames are cheap to clone, and nothing is decoded
//! before [`Message::decode`] is asked to. Decoding takes what real peers send: missing fields get
//! their defaults, unknown ones are no error, and content of no known shape is kept as it came.
//!
//! Sources: the Jupyter messaging specification 5.4, JEP 65 (`iopub_welcome`) and JEP 91 (subshells).

pub mod connection;
pub mod content;
pub mod error;
pub mod frames;
pub mod header;
pub(crate) mod json;
pub mod kernelspec;
pub mod message;
#[cfg(test)]
mod properties;
pub mod signing;

pub use connection::{Address, Channel, ConnectionInfo, Transport};
pub use content::Content;
pub use error::ProtocolError;
pub use frames::{Peek, RawMessage};
pub use header::Header;
pub use kernelspec::{InterruptMode, KernelSpec};
pub use message::Message;
pub use signing::{Replay, Signer, Verifier};

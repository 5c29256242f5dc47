//! ZeroMQ sockets for both ends of the protocol; the only module that names the `zeromq` crate.
//!
//! Every connection that we dial is opened by us, watched by a [`gate`] and spliced to a ZeroMQ socket of its
//! own, a link. That answers what the crate leaves open: the peer's end is noticed, a frame header that claims
//! terabytes never reaches an allocator, and a socket in a folder that foreign code can write is pinned before
//! use. The splice costs less than the noise of a round trip to a kernel.
//!
//! Whoever connects to us may be anybody, and is not given a socket: [`zmtp`] speaks to it on the connection
//! itself, [`guests`] says who has to go when too many come, and [`log`] keeps what the slow have not read.

mod client;
mod gate;
mod guests;
mod link;
mod log;
mod queue;
mod server;
mod stream;
mod zmtp;

pub use client::{Dealer, DealerReceiver, DealerSender, Heartbeat, Subscriber};
pub use gate::Limits;
pub use link::{meeting_places, remove_meeting_places};
pub use queue::{ByteQueue, Popped};
pub use server::{
    Guard, Publisher, PublisherSender, Router, RouterSender, Subscription, bind_heartbeat,
};

use bytes::Bytes;

/// The frames of one multipart message.
pub type Frames = Vec<Bytes>;

/// Why a connection could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address cannot be connected to.
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    /// Nobody listened at the address before the deadline.
    #[error("nobody listens on {address}: {reason}")]
    NobodyListens { address: String, reason: String },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Bind { address: String, reason: String },
    /// The peer does not speak ZMTP, or not in time.
    #[error("the peer at the other end did not complete the ZeroMQ handshake: {0}")]
    Handshake(String),
    /// The connection has ended; the text says by whom and why.
    #[error("the connection was closed: {0}")]
    Closed(String),
}

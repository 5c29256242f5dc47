//! What else is to see a kernel's messages: the relay that stands between a kernel and its front ends.

use futures_util::future::BoxFuture;

use super::Client;
use crate::protocol::{Channel, RawMessage};

/// Sees what a kernel sends, as it came, except what answers the client's own requests.
pub trait Tap: Send + Sync {
    /// A message whose signature was verified, before the client looks at it itself.
    fn take(&self, channel: Channel, message: RawMessage);

    /// Waits until more can be taken. What the kernel publishes waits as long.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// A kernel is connected to, or another in the place of one that died.
    fn connected(&self, client: &Client);
}

//! The client's end of the five channels.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use zeromq::{DealerRecvHalf, DealerSendHalf, DealerSocket, Socket, SocketOptions, SubSocket};

use super::gate::Limits;
use super::link::{self, Receiver, Sender};
use super::stream::dial;
use super::{Frames, TransportError};
use crate::protocol::Address;

/// What a kernel may claim, and until when it must have shaken hands.
fn limits(deadline: Instant) -> Limits {
    let limits = Limits::default();
    Limits {
        handshake: limits
            .handshake
            .min(deadline.saturating_duration_since(Instant::now())),
        ..limits
    }
}

/// A DEALER: shell, control or stdin.
pub struct Dealer {
    pub sender: DealerSender,
    pub receiver: DealerReceiver,
}

/// Sends requests.
pub struct DealerSender(Sender<DealerSendHalf>);

/// Receives replies.
pub struct DealerReceiver(Receiver<DealerRecvHalf>);

impl Dealer {
    /// Connects within `deadline` as `identity`. A kernel routes input requests by identity, so a client's shell and
    /// stdin sockets use the same one.
    pub async fn connect(
        address: Address,
        identity: &str,
        deadline: Instant,
    ) -> Result<Dealer, TransportError> {
        let mut options = SocketOptions::default();
        options.peer_identity(
            identity
                .parse()
                .map_err(|error: zeromq::ZmqError| TransportError::Handshake(error.to_string()))?,
        );
        let mut socket = DealerSocket::with_options(options);
        let stream = dial(&address, deadline).await?;
        let (gate, _) = link::open(&mut socket, stream, limits(deadline)).await?;
        let (send, receive) = socket.split();
        Ok(Dealer {
            sender: DealerSender(Sender::new(send, gate.clone())),
            receiver: DealerReceiver(Receiver::new(receive, gate)),
        })
    }
}

impl DealerSender {
    pub async fn send(&mut self, frames: Frames) -> Result<(), TransportError> {
        self.0.send(frames).await
    }
}

impl DealerReceiver {
    pub async fn recv(&mut self) -> Result<Frames, TransportError> {
        self.0.recv().await
    }
}

/// A SUB, subscribed to everything: iopub.
pub struct Subscriber(Receiver<SubSocket>);

impl Subscriber {
    pub async fn connect(address: Address, deadline: Instant) -> Result<Self, TransportError> {
        let mut socket = SubSocket::new();
        let stream = dial(&address, deadline).await?;
        let (gate, _) = link::open(&mut socket, stream, limits(deadline)).await?;
        socket
            .subscribe("")
            .await
            .map_err(|error| TransportError::Closed(error.to_string()))?;
        Ok(Subscriber(Receiver::new(socket, gate)))
    }

    pub async fn recv(&mut self) -> Result<Frames, TransportError> {
        self.0.recv().await
    }
}

/// The heartbeat: a kernel's process echoes what it is sent, even while a cell runs.
pub struct Heartbeat(Dealer);

impl Heartbeat {
    pub async fn connect(address: Address, deadline: Instant) -> Result<Self, TransportError> {
        let identity = uuid::Uuid::new_v4().to_string();
        Ok(Heartbeat(
            Dealer::connect(address, &identity, deadline).await?,
        ))
    }

    /// Sends one beat and says whether its echo came back within `patience`. An echo of an earlier, late beat does
    /// not count.
    pub async fn beat(&mut self, patience: Duration) -> Result<bool, TransportError> {
        // The empty frame is a REQ's envelope, which a kernel that binds a REP socket needs.
        let beat = vec![
            Bytes::new(),
            Bytes::from(uuid::Uuid::new_v4().as_bytes().to_vec()),
        ];
        let echo = async {
            self.0.sender.send(beat.clone()).await?;
            loop {
                if self.0.receiver.recv().await? == beat {
                    return Ok(());
                }
            }
        };
        match tokio::time::timeout(patience, echo).await {
            Ok(echoed) => echoed.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

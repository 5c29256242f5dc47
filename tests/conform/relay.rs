//! ipykernel behind a relay that breaks one thing. The relay is this test binary again, started by a kernelspec.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use heddle::kernel::discovery::Installed;
use heddle::kernel::{Choice, Kernel, Options};
use heddle::protocol::content::{IopubWelcome, KernelInfoRequest};
use heddle::protocol::{
    Channel, ConnectionInfo, KernelSpec, Message, RawMessage, Signer, Transport, Verifier,
};
use heddle::transport::{
    Dealer, DealerSender, Frames, Publisher, Router, Subscriber, bind_heartbeat,
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::support::kernels::{connection, options, start};
use crate::support::scripted_kernel::gap;

/// Names what the relay is to break.
const FAULT: &str = "HEDDLE_TEST_FAULT";
/// How long what was sent last may take on its way before the relay ends.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// ipykernel with one fault; with an empty one as it is.
pub fn faulty(fault: &str) -> Options {
    let relay = std::env::current_exe().unwrap();
    let argv = [
        relay.to_str().unwrap(),
        "--exact",
        "relay::serves_where_it_is_asked_to",
        "--nocapture",
        // Another filter for the test runner, which takes it for the name of a test.
        "{connection_file}",
    ];
    Options {
        choice: Choice::Installed(Box::new(Installed {
            precautions: Default::default(),
            name: "faulty".into(),
            folder: Default::default(),
            prefix: None,
            spec: Ok(KernelSpec {
                argv: argv.map(str::to_owned).into(),
                language: "python".into(),
                env: [(FAULT.to_owned(), fault.to_owned())].into(),
                ..KernelSpec::default()
            }),
        })),
        ..options(Transport::Ipc)
    }
}

/// No test, but the relay's process, where it was started as one.
#[tokio::test(flavor = "multi_thread")]
async fn serves_where_it_is_asked_to() {
    let Ok(fault) = std::env::var(FAULT) else {
        return;
    };
    let file = std::env::args().next_back().unwrap();
    let front = ConnectionInfo::from_json(&std::fs::read(file).unwrap()).unwrap();
    serve(&front, fault).await;
    tokio::time::sleep(LAST_WORDS).await;
    std::process::exit(0);
}

/// A front end, as the kernel behind sees it.
struct Client {
    senders: HashMap<Channel, DealerSender>,
    _readers: tokio::task::JoinSet<()>,
}

struct Relay {
    fault: String,
    front: Signer,
    verifier: Verifier,
    back: Signer,
    kernel: Kernel,
    clients: HashMap<Bytes, Client>,
    /// What the kernel behind sends to a client.
    answers: mpsc::UnboundedSender<(Channel, Bytes, Frames)>,
    /// Published too late, for some faults.
    held: Vec<RawMessage>,
    messages: u64,
}

async fn serve(info: &ConnectionInfo, fault: String) {
    let router = async |channel| Router::bind(info.address(channel)).await.unwrap();
    let mut shell = router(Channel::Shell).await;
    let mut control = router(Channel::Control).await;
    let mut stdin = router(Channel::Stdin).await;
    let _heartbeat = match fault.as_str() {
        "has no heartbeat" => None,
        _ => Some(
            bind_heartbeat(info.address(Channel::Heartbeat))
                .await
                .unwrap(),
        ),
    };
    let mut interrupts = signal(SignalKind::interrupt()).unwrap();
    let kernel = start(Transport::Ipc).await;
    let back = connection(&kernel);
    let mut iopub = Subscriber::connect(back.address(Channel::Iopub), soon())
        .await
        .unwrap();
    // Until what is published reaches us.
    loop {
        let asked = kernel
            .client()
            .ask(Channel::Shell, KernelInfoRequest {}.into());
        asked.await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(100), iopub.recv());
        if heard.await.is_ok() {
            break;
        }
    }
    let mut publisher = Publisher::bind(info.address(Channel::Iopub), gap)
        .await
        .unwrap();
    let (answers, mut answered) = mpsc::unbounded_channel();
    let front = info.signer().unwrap();
    let mut relay = Relay {
        fault,
        verifier: Verifier::new(front.clone()),
        front,
        back: back.signer().unwrap(),
        kernel,
        clients: HashMap::new(),
        answers,
        held: Vec::new(),
        messages: 0,
    };
    loop {
        tokio::select! {
            Some(frames) = shell.recv() => relay.request(Channel::Shell, frames, &back).await,
            Some(frames) = control.recv() => relay.request(Channel::Control, frames, &back).await,
            Some(frames) = stdin.recv() => relay.request(Channel::Stdin, frames, &back).await,
            Some((channel, identity, frames)) = answered.recv() => {
                let router = match channel {
                    Channel::Shell => &shell,
                    Channel::Control => &control,
                    _ => &stdin,
                };
                relay.answer(channel, identity, frames, router);
            }
            Some(subscription) = publisher.subscription() => {
                let subscription_to = IopubWelcome { subscription: String::new() };
                let mut raw = Message::request(subscription_to, "relay", "relay").encode();
                relay.front.sign(&mut raw);
                publisher.sender.send_to(subscription.subscriber, raw.into_frames());
            }
            Some(()) = interrupts.recv() => if !relay.is("ignores interrupts") {
                relay.kernel.interrupt();
            },
            published = iopub.recv() => match published {
                Ok(frames) => relay.publish(frames, &publisher),
                Err(_) => break,
            },
        }
    }
    // The kernel behind has ended; its last replies are on their way.
    while let Ok(Some((channel, identity, frames))) =
        tokio::time::timeout(LAST_WORDS, answered.recv()).await
    {
        let router = match channel {
            Channel::Control => &control,
            _ => &shell,
        };
        relay.answer(channel, identity, frames, router);
    }
    // Until they have been sent.
    tokio::time::sleep(LAST_WORDS).await;
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(10)
}

/// Changes a frame that is a JSON object.
fn edit(frame: &mut Bytes, change: impl FnOnce(&mut Value)) {
    if let Ok(mut value) = serde_json::from_slice(frame) {
        change(&mut value);
        *frame = value.to_string().into();
    }
}

fn value(frame: &Bytes) -> Value {
    serde_json::from_slice(frame).unwrap_or_default()
}

impl Relay {
    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    /// From a client to the kernel behind.
    async fn request(&mut self, channel: Channel, mut frames: Frames, back: &ConnectionInfo) {
        let identity = frames.remove(0);
        if !self.clients.contains_key(&identity) {
            let client = self.client(&identity, back).await;
            self.clients.insert(identity.clone(), client);
        }
        let frames = match RawMessage::parse(frames.clone()) {
            Ok(raw) => match self.spoilt_request(raw) {
                Some(raw) => raw.into_frames(),
                None => return,
            },
            Err(_) if self.is("dies of what is no message") => std::process::exit(1),
            Err(_) => frames,
        };
        let client = self.clients.get_mut(&identity).unwrap();
        // A kernel that has ended takes nothing.
        let _ = client.senders.get_mut(&channel).unwrap().send(frames).await;
    }

    /// Connections to the kernel behind under a client's identity.
    async fn client(&self, identity: &Bytes, back: &ConnectionInfo) -> Client {
        let mut senders = HashMap::new();
        let mut readers = tokio::task::JoinSet::new();
        for channel in [Channel::Shell, Channel::Control, Channel::Stdin] {
            let name = std::str::from_utf8(identity).unwrap();
            let dealer = Dealer::connect(back.address(channel), name, soon())
                .await
                .unwrap();
            let Dealer {
                sender,
                mut receiver,
            } = dealer;
            senders.insert(channel, sender);
            let (answers, identity) = (self.answers.clone(), identity.clone());
            readers.spawn(async move {
                while let Ok(frames) = receiver.recv().await {
                    let _ = answers.send((channel, identity.clone(), frames));
                }
            });
        }
        Client {
            senders,
            _readers: readers,
        }
    }

    fn spoilt_request(&mut self, mut raw: RawMessage) -> Option<RawMessage> {
        let known = match self.fault.as_str() {
            "answers forged messages" => Ok(()),
            "answers replayed messages" => self.front.verify(&raw),
            _ => self.verifier.verify(&raw),
        };
        known.ok()?;
        let header = value(&raw.header);
        let mut set = |field: &str, to: Value| {
            if header["msg_type"] == "execute_request" {
                edit(&mut raw.content, |content| content[field] = to);
            }
        };
        match self.fault.as_str() {
            "ignores allow_stdin" => set("allow_stdin", json!(true)),
            "ignores silent" => set("silent", json!(false)),
            "ignores stop_on_error" => set("stop_on_error", json!(false)),
            "ignores interrupts" if header["msg_type"] == "interrupt_request" => return None,
            // Else the kernel behind would refuse it.
            "answers replayed messages" => edit(&mut raw.metadata, |metadata| {
                self.messages += 1;
                metadata["n"] = json!(self.messages);
            }),
            _ => {}
        }
        self.back.sign(&mut raw);
        Some(raw)
    }

    /// From the kernel behind to a client.
    fn answer(&self, channel: Channel, identity: Bytes, frames: Frames, router: &Router) {
        let mut raw = RawMessage::parse(frames).unwrap();
        let msg_type = value(&raw.header)["msg_type"].clone();
        match self.fault.as_str() {
            "gives replies another parent" if channel == Channel::Shell => {
                edit(&mut raw.parent_header, |parent| {
                    parent["username"] = json!("nobody")
                });
            }
            "gives no shutdown_reply" if msg_type == "shutdown_reply" => return,
            "counts in UTF-16" if msg_type == "complete_reply" => {
                edit(&mut raw.content, |content| {
                    // Of the completions that are asked for, only those behind a character of two units.
                    if content["cursor_start"].as_u64() > Some(0) {
                        content["cursor_start"] =
                            json!(content["cursor_start"].as_u64().unwrap() + 1);
                    }
                })
            }
            _ => {}
        }
        self.front.sign(&mut raw);
        let everyone = self.is("answers everyone") && channel == Channel::Shell;
        let all: Vec<_> = match everyone {
            true => self.clients.keys().cloned().collect(),
            false => vec![identity],
        };
        for identity in all {
            let mut copy = raw.clone();
            copy.identities = vec![identity];
            router.sender.send(copy.into_frames());
        }
    }

    fn publish(&mut self, frames: Frames, publisher: &Publisher) {
        let mut raw = RawMessage::parse(frames).unwrap();
        let (header, parent) = (value(&raw.header), value(&raw.parent_header));
        let msg_type = header["msg_type"].as_str().unwrap();
        let idle = value(&raw.content)["execution_state"] == "idle";
        match self.fault.as_str() {
            "drops idle" if idle && parent["msg_type"] == "kernel_info_request" => return,
            "sends idle before the result" if msg_type == "execute_result" => {
                return self.held.push(raw);
            }
            "sends no execute_input" if msg_type == "execute_input" => return,
            "gives no shutdown_reply" if msg_type == "shutdown_reply" => return,
            "gives dates without a zone" => edit(&mut raw.header, |header| {
                let date = header["date"].as_str().unwrap();
                header["date"] = json!(date.trim_end_matches('Z').trim_end_matches("+00:00"));
            }),
            "repeats a msg_id" if msg_type == "stream" => edit(&mut raw.header, |header| {
                header["msg_id"] = json!("the same");
            }),
            _ => {}
        }
        self.front.sign(&mut raw);
        if self.is("signs streams wrongly") && msg_type == "stream" {
            raw.signature = Bytes::from("0".repeat(64));
        }
        let twice = self.is("sends clear_output twice") && msg_type == "clear_output";
        publisher.sender.publish(&raw.clone().into_frames(), true);
        if twice {
            publisher.sender.publish(&raw.into_frames(), true);
        }
        if idle {
            for mut held in std::mem::take(&mut self.held) {
                self.front.sign(&mut held);
                publisher.sender.publish(&held.into_frames(), true);
            }
        }
    }
}

//! A kernel of a few words, made of our own kernel side: what front ends are tried on.

use std::path::Path;

use bytes::Bytes;
use heddle::protocol::content::{
    ExecuteReply, ExecuteResult, ExecutionState, InputRequest, IopubWelcome, KernelInfoReply,
    LanguageInfo, ShutdownReply, Status, Stream,
};
use heddle::protocol::{
    Channel, ConnectionInfo, Content, Message, RawMessage, Signer, Transport, Verifier,
};
use heddle::transport::{Frames, Publisher, Router, bind_heartbeat};

/// Runs until it is dropped. Its cells are `say TEXT`, `value TEXT` and `ask PROMPT`.
pub struct ScriptedKernel(tokio::task::JoinHandle<()>);

impl Drop for ScriptedKernel {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct State {
    signer: Signer,
    verifier: Verifier,
    publisher: Publisher,
    stdin: Router,
    /// The cell that waits for a line of input.
    asking: Option<Message>,
    count: u64,
}

/// A connection of this transport, in `folder`, and its connection file.
pub fn connection(transport: Transport, folder: &Path) -> (ConnectionInfo, std::path::PathBuf) {
    let key = "a key for tests".to_owned().into();
    let info = match transport {
        Transport::Ipc => ConnectionInfo::ipc(&folder.join("k").to_string_lossy(), key),
        Transport::Tcp => {
            let free = [(); 5].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
            let ports = free.map(|listener| listener.local_addr().unwrap().port());
            ConnectionInfo::tcp("127.0.0.1", ports, key)
        }
    };
    let info = info.unwrap();
    let file = folder.join("connection.json");
    std::fs::write(&file, info.to_json()).unwrap();
    (info, file)
}

/// What a subscriber gets in place of what it missed.
pub fn gap(messages: u64, bytes: u64) -> Frames {
    vec![
        Bytes::from_static(b"gap"),
        Bytes::from(format!("{messages} {bytes}")),
    ]
}

impl ScriptedKernel {
    pub async fn start(info: &ConnectionInfo) -> ScriptedKernel {
        let router = async |channel| Router::bind(info.address(channel)).await.unwrap();
        let mut shell = router(Channel::Shell).await;
        let mut control = router(Channel::Control).await;
        let heartbeat = bind_heartbeat(info.address(Channel::Heartbeat))
            .await
            .unwrap();
        let signer = info.signer().unwrap();
        let mut state = State {
            publisher: Publisher::bind(info.address(Channel::Iopub), gap)
                .await
                .unwrap(),
            stdin: router(Channel::Stdin).await,
            verifier: Verifier::new(signer.clone()),
            signer,
            asking: None,
            count: 0,
        };
        ScriptedKernel(tokio::spawn(async move {
            let _heartbeat = heartbeat;
            loop {
                tokio::select! {
                    Some(frames) = shell.recv() => state.request(&shell, frames).await,
                    Some(frames) = control.recv() => state.request(&control, frames).await,
                    Some(frames) = state.stdin.recv() => state.answered(&shell, frames).await,
                    Some(subscription) = state.publisher.subscription() => {
                        let topic = String::from_utf8(subscription.topic.to_vec()).unwrap();
                        let welcome = IopubWelcome { subscription: topic };
                        let welcome = state.sign(Message::request(welcome, "scripted", "kernel"));
                        state.publisher.sender.send_to(subscription.subscriber, welcome);
                    }
                }
            }
        }))
    }
}

impl State {
    fn sign(&self, message: Message) -> Frames {
        let mut raw = message.encode();
        self.signer.sign(&mut raw);
        raw.into_frames()
    }

    fn publish(&self, parent: &Message, content: impl Into<Content>) {
        let mut message = Message::request(content, "scripted", "kernel").as_child_of(parent);
        message.identities = vec![Bytes::from_static(b"kernel.scripted")];
        self.publisher.sender.publish(&self.sign(message), true);
    }

    fn state(&self, parent: &Message, execution_state: ExecutionState) {
        self.publish(parent, Status { execution_state });
    }

    fn read(&mut self, frames: Frames) -> Option<Message> {
        let raw = RawMessage::parse(frames).ok()?;
        self.verifier.verify(&raw).ok()?;
        Message::decode(raw).ok()
    }

    async fn request(&mut self, router: &Router, frames: Frames) {
        let Some(request) = self.read(frames) else {
            return;
        };
        self.state(&request, ExecutionState::Busy);
        let reply: Content = match &request.content {
            Content::KernelInfoRequest(_) => KernelInfoReply {
                protocol_version: "5.4".into(),
                implementation: "scripted".into(),
                language_info: Box::new(LanguageInfo {
                    name: "script".into(),
                    ..LanguageInfo::default()
                }),
                ..KernelInfoReply::default()
            }
            .into(),
            Content::ShutdownRequest(_) => ShutdownReply::default().into(),
            Content::ExecuteRequest(execute) => {
                self.count += 1;
                let (word, rest) = execute.code.split_once(' ').unwrap_or((&execute.code, ""));
                match word {
                    "say" => self.publish(
                        &request,
                        Stream {
                            name: "stdout".into(),
                            text: rest.into(),
                        },
                    ),
                    "value" => self.publish(
                        &request,
                        ExecuteResult {
                            execution_count: Some(self.count),
                            data: [("text/plain".to_owned(), rest.into())]
                                .into_iter()
                                .collect(),
                            ..ExecuteResult::default()
                        },
                    ),
                    "ask" => {
                        let prompt = InputRequest {
                            prompt: rest.into(),
                            password: false,
                        };
                        let ask = self.sign(Message::reply_to(&request, prompt));
                        self.stdin.sender.send(ask);
                        self.asking = Some(request);
                        return;
                    }
                    _ => {}
                }
                self.executed()
            }
            _ => return self.state(&request, ExecutionState::Idle),
        };
        let reply = self.sign(Message::reply_to(&request, reply));
        router.sender.send(reply);
        self.state(&request, ExecutionState::Idle);
    }

    fn executed(&self) -> Content {
        ExecuteReply {
            execution_count: Some(self.count),
            ..ExecuteReply::default()
        }
        .into()
    }

    async fn answered(&mut self, shell: &Router, frames: Frames) {
        let (Some(answer), Some(request)) = (self.read(frames), self.asking.take()) else {
            return;
        };
        if let Content::InputReply(input) = &answer.content {
            let text = format!("you typed {}", input.value);
            self.publish(
                &request,
                Stream {
                    name: "stdout".into(),
                    text,
                },
            );
        }
        let reply = self.sign(Message::reply_to(&request, self.executed()));
        shell.sender.send(reply);
        self.state(&request, ExecutionState::Idle);
    }
}

//! What the bridge says for the kernel: who it is, and where its sockets are.

use std::collections::BTreeMap;

use crate::protocol::content::{ConnectReply, KernelInfoReply, LanguageInfo, ReplyStatus};
use crate::protocol::header::PROTOCOL_VERSION;
use crate::protocol::{Channel, ConnectionInfo, Content, Transport};

/// The answers that do not wait for the kernel.
pub struct Answers {
    info: KernelInfoReply,
    ports: ConnectReply,
}

impl Answers {
    /// `known` is what such a kernel said of itself at another time.
    pub fn new(
        connection: &ConnectionInfo,
        known: Option<KernelInfoReply>,
        place: &str,
    ) -> Answers {
        let port = |channel| match (connection.transport, channel) {
            (Transport::Tcp | Transport::Ipc, Channel::Shell) => connection.shell_port,
            (_, Channel::Iopub) => connection.iopub_port,
            (_, Channel::Stdin) => connection.stdin_port,
            (_, Channel::Control) => connection.control_port,
            (_, Channel::Heartbeat) => connection.hb_port,
        };
        let ports: BTreeMap<String, serde_json::Value> = Channel::ALL
            .into_iter()
            .map(|channel| (format!("{}_port", channel.name()), port(channel).into()))
            .collect();
        let mut answers = Answers {
            info: KernelInfoReply::default(),
            ports: ConnectReply(ports),
        };
        answers.learn(known.unwrap_or_else(python), place);
        answers
    }

    /// What the kernel itself says, and where its code runs.
    pub fn learn(&mut self, info: KernelInfoReply, place: &str) {
        let banner = format!(
            "Heddle {}: the code runs in {place}. %%ask asks the agent.\n{}",
            env!("CARGO_PKG_VERSION"),
            info.banner
        );
        self.info = KernelInfoReply {
            status: ReplyStatus::Ok,
            banner,
            ..info
        };
    }

    pub fn kernel_info(&self) -> Content {
        self.info.clone().into()
    }

    pub fn ports(&self) -> Content {
        self.ports.clone().into()
    }
}

/// Where the code of a mode runs, in words for people; none for a mode that says nothing of it.
pub fn place(mode: &str) -> Option<&'static str> {
    match mode {
        "container" => Some("a container"),
        "sandbox" => Some("the sandbox"),
        "local" => Some("a plain process, unprotected"),
        _ => None,
    }
}

/// What every Python kernel would say.
fn python() -> KernelInfoReply {
    let language = LanguageInfo {
        name: "python".into(),
        version: "3".into(),
        mimetype: "text/x-python".into(),
        file_extension: ".py".into(),
        extra: [
            ("pygments_lexer", "ipython3".into()),
            (
                "codemirror_mode",
                serde_json::json!({"name": "ipython", "version": 3}),
            ),
            ("nbconvert_exporter", "python".into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect(),
    };
    KernelInfoReply {
        protocol_version: PROTOCOL_VERSION.into(),
        implementation: "ipython".into(),
        implementation_version: env!("CARGO_PKG_VERSION").into(),
        language_info: Box::new(language),
        ..KernelInfoReply::default()
    }
}

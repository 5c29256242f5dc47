//! Real kernels, and cells run in them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heddle::kernel::discovery::Installed;
use heddle::kernel::python::{self, Python};
use heddle::kernel::{Choice, Client, Exchange, Grants, Incoming, Kernel, Local, Options};
use heddle::protocol::content::{ExecuteReply, ExecuteRequest, ExecutionState};
use heddle::protocol::{
    Channel, ConnectionInfo, Content, InterruptMode, KernelSpec, Message, Transport,
};
use heddle::transport::Popped;

/// A Python with ipykernel: the active environment's, or the one that Heddle makes once.
pub fn python() -> &'static Python {
    static PYTHON: OnceLock<Python> = OnceLock::new();
    PYTHON.get_or_init(|| {
        python::find_or_make(
            &heddle::kernel::python::Precautions {
                isolated: false,
                ..heddle::kernel::python::Precautions::default()
            },
            &mut |line| eprintln!("{line}"),
        )
        .unwrap()
    })
}

pub fn options(transport: Transport) -> Options {
    Options {
        tap: None,
        launcher: Arc::new(Local {
            supervisor: PathBuf::from(env!("CARGO_BIN_EXE_heddle")),
        }),
        choice: Choice::Python(python().clone()),
        transport,
        cwd: std::env::temp_dir(),
        env: Vec::new(),
        start_timeout: Duration::from_secs(60),
        grants: Grants::default(),
    }
}

/// Options for a kernel that is this command.
pub fn command(argv: &[&str]) -> Options {
    Options {
        tap: None,
        choice: Choice::Installed(Box::new(Installed {
            precautions: Default::default(),
            name: "odd".into(),
            folder: PathBuf::new(),
            prefix: None,
            spec: Ok(KernelSpec {
                argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
                interrupt_mode: InterruptMode::Signal,
                ..KernelSpec::default()
            }),
        })),
        ..options(Transport::Ipc)
    }
}

pub async fn start(transport: Transport) -> Kernel {
    Kernel::start(options(transport)).await.unwrap()
}

pub fn connection(kernel: &Kernel) -> ConnectionInfo {
    ConnectionInfo::from_json(&std::fs::read(kernel.connection_file()).unwrap()).unwrap()
}

pub fn folder(kernel: &Kernel) -> PathBuf {
    Path::parent(&kernel.connection_file()).unwrap().to_owned()
}

pub fn cell(code: &str) -> Content {
    Content::ExecuteRequest(ExecuteRequest {
        code: code.to_owned(),
        ..ExecuteRequest::default()
    })
}

/// What came of a cell.
#[derive(Debug, Default)]
pub struct Ran {
    pub stdout: String,
    /// `text/plain` of its value.
    pub value: Option<String>,
    /// The exception's class and value.
    pub error: Option<(String, String)>,
    pub reply: Option<ExecuteReply>,
    /// The other messages, in order.
    pub others: Vec<Message>,
    /// How the kernel ended, if it did.
    pub died: Option<String>,
    /// What the kernel has told of its states for this request, in order.
    pub states: Vec<ExecutionState>,
}

impl Ran {
    /// Whether it began once and ended once, as a front end expects that waits for its states.
    pub fn whole(&self) -> bool {
        self.states == [ExecutionState::Busy, ExecutionState::Idle]
    }
}

/// The next that comes for a request. Its kernel may still have to start, on a busy machine.
pub async fn next(exchange: &mut Exchange) -> Option<Popped<Incoming>> {
    let next = tokio::time::timeout(Duration::from_secs(60), exchange.next()).await;
    next.expect("something comes within 60 s")
}

/// Takes everything that comes for a request.
pub async fn collect(exchange: &mut Exchange) -> Ran {
    let mut ran = Ran::default();
    while let Some(popped) = next(exchange).await {
        take(&mut ran, popped);
    }
    ran
}

/// Runs a cell to its end.
pub async fn run(client: &Client, code: &str) -> Ran {
    collect(&mut client.request(Channel::Shell, cell(code))).await
}

/// Waits until a cell has printed `text`.
pub async fn printed(exchange: &mut Exchange, text: &str) -> Ran {
    let mut ran = Ran::default();
    while !ran.stdout.contains(text) {
        take(&mut ran, next(exchange).await.expect("it printed"));
        assert_eq!(ran.died, None);
    }
    ran
}

fn take(ran: &mut Ran, popped: Popped<Incoming>) {
    let message = match popped {
        Popped::Item(
            Incoming::Output(message) | Incoming::Reply(message) | Incoming::Input(message),
        ) => message,
        Popped::Item(Incoming::Died(reason)) => {
            ran.died = Some(reason);
            return;
        }
        Popped::Gap { messages, bytes } => panic!("{messages} messages of {bytes} bytes are lost"),
    };
    match &message.content {
        Content::Stream(stream) => ran.stdout.push_str(&stream.text),
        Content::ExecuteResult(result) => {
            let plain = result.data.get("text/plain").and_then(|text| text.as_str());
            ran.value = plain.map(str::to_owned);
        }
        Content::Error(error) => ran.error = Some((error.ename.clone(), error.evalue.clone())),
        Content::ExecuteReply(reply) => ran.reply = Some(reply.clone()),
        Content::Status(status) => ran.states.push(status.execution_state.clone()),
        _ => ran.others.push(message),
    }
}

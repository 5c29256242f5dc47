//! Several front ends at a time, and what each of them gets.

use std::time::Duration;

use bytes::Bytes;
use heddle::kernel::Incoming;
use heddle::protocol::content::{
    CommMsg, ExecuteRequest, ExecutionState, InterruptRequest, KernelInfoRequest, ReplyStatus,
};
use heddle::protocol::{Channel, Content, Message, RawMessage, Signer, Transport};
use heddle::transport::{Dealer, Popped, Subscriber};
use serde_json::{Map, json};

use super::served::{SOON, START, Served};
use crate::support::kernels::{cell, collect, next, printed, run};
use crate::support::process;

#[tokio::test]
async fn cells_run_over_either_transport() {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let served = Served::start(transport);
        let client = served.client().await;
        let ran = run(&client, "print('out'); 6 * 7").await;
        assert_eq!(
            (ran.stdout.as_str(), ran.value.as_deref()),
            ("out\n", Some("42"))
        );
        let ran = run(&client, "1/0").await;
        assert_eq!(ran.error.unwrap().0, "ZeroDivisionError");
    }
}

#[tokio::test]
async fn a_question_goes_to_the_client_whose_cell_asks() {
    let served = Served::start(Transport::Ipc);
    let (one, other) = (served.client().await, served.client().await);
    for (client, name) in [(&one, "one"), (&other, "other")] {
        let code = format!("print(input('for {name}'))");
        let mut exchange = client.request(Channel::Shell, cell(&code));
        let question = loop {
            match next(&mut exchange).await.unwrap() {
                Popped::Item(Incoming::Input(question)) => break question,
                Popped::Item(_) => {}
                gap => panic!("{gap:?}"),
            }
        };
        client.answer_input(&question, format!("answer of {name}"));
        assert_eq!(
            collect(&mut exchange).await.stdout,
            format!("answer of {name}\n")
        );
    }
}

#[tokio::test]
async fn an_interrupt_stops_the_cell_and_its_children() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let code =
        "import subprocess\nprint('running', flush=True)\nsubprocess.run(['sleep', '60.31'])";
    let mut exchange = client.request(Channel::Shell, cell(code));
    printed(&mut exchange, "running").await;
    process::within(SOON, "the child runs", || {
        !process::running("60.31").is_empty()
    })
    .await;
    let interrupt = Content::InterruptRequest(InterruptRequest::default());
    client.ask(Channel::Control, interrupt).await.unwrap();
    assert_eq!(
        collect(&mut exchange).await.error.unwrap().0,
        "KeyboardInterrupt"
    );
    process::within(SOON, "the child ends", || {
        process::running("60.31").is_empty()
    })
    .await;
    assert_eq!(run(&client, "1").await.value.as_deref(), Some("1"));
}

#[tokio::test]
async fn an_error_stops_what_is_queued_behind_it() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    run(&client, "1").await;
    let mut first = client.request(Channel::Shell, cell("import time; time.sleep(0.5); 1/0"));
    let mut second = client.request(Channel::Shell, cell("print('not this')"));
    assert!(collect(&mut first).await.error.is_some());
    let ran = collect(&mut second).await;
    assert_eq!(ran.stdout, "");
    let reply = ran.reply.unwrap();
    assert_eq!(
        reply.status,
        heddle::protocol::content::ReplyStatus::Aborted
    );
}

#[tokio::test]
async fn widget_messages_pass_with_their_buffers() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let code = "
from comm import create_comm
echo = create_comm(target_name='echo')
echo.on_msg(lambda m: echo.send({'n': m['content']['data']['n']}, buffers=[bytes(b) for b in m['buffers']]))
print(echo.comm_id)";
    let comm_id = run(&client, code).await.stdout.trim().to_owned();
    const UPDATES: usize = 1000;
    let mut exchanges = Vec::new();
    for n in 0..UPDATES {
        let content = Content::CommMsg(CommMsg {
            comm_id: comm_id.clone(),
            data: Map::from_iter([("n".to_owned(), json!(n))]),
        });
        let buffers = vec![Bytes::from(vec![n as u8; 1 << 10]), Bytes::new()];
        exchanges.push(client.request_with(Channel::Shell, content, Map::new(), buffers));
    }
    for (n, mut exchange) in exchanges.into_iter().enumerate() {
        let ran = collect(&mut exchange).await;
        let echo = ran
            .others
            .iter()
            .find_map(|message| match &message.content {
                Content::CommMsg(echo) => Some((&echo.data, &message.buffers)),
                _ => None,
            });
        let (data, buffers) = echo.unwrap_or_else(|| panic!("no echo of {n}: {ran:?}"));
        assert_eq!(data["n"], json!(n));
        assert_eq!(buffers[0], vec![n as u8; 1 << 10]);
        assert_eq!(buffers.len(), 2);
    }
}

#[tokio::test]
async fn ten_clients_come_and_go_while_one_gets_everything() {
    let served = Served::start(Transport::Tcp);
    let client = served.client().await;
    let code =
        "import time\nfor n in range(200):\n    print('x' * 10_000, flush=True); time.sleep(0.01)";
    let mut exchange = client.request(Channel::Shell, cell(code));
    let coming = async {
        for _ in 0..10 {
            let visitor = served.connect().await;
            drop(visitor);
        }
    };
    let (ran, ()) = tokio::join!(collect(&mut exchange), coming);
    assert_eq!(ran.stdout.len(), 200 * 10_001);
    assert_eq!(run(&client, "1").await.value.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_client_that_never_reads_costs_the_others_nothing_and_is_told_what_it_missed() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let deadline = tokio::time::Instant::now() + START;
    let mut lazy = Subscriber::connect(served.info.address(Channel::Iopub), deadline)
        .await
        .unwrap();
    // 300 MiB. What is not read waits, and what is too much is dropped: for the lazy one alone.
    let code = "import sys\nfor n in range(300):\n    sys.stdout.write('x' * (1 << 20)); sys.stdout.flush()";
    let mut exchange = client.request(Channel::Shell, cell(code));
    let mut most = 0;
    let mut bytes = 0;
    while let Some(popped) = next(&mut exchange).await {
        most = most.max(served.memory());
        match popped {
            Popped::Item(Incoming::Output(message)) => {
                if let Content::Stream(stream) = message.content {
                    bytes += stream.text.len();
                }
            }
            Popped::Item(_) => {}
            gap => panic!("{gap:?}"),
        }
    }
    assert_eq!(bytes, 300 << 20);
    assert!(most < 400 << 20, "{most} bytes of memory");
    let told = async {
        while !lazy.recv().await.unwrap().iter().any(|frame| {
            frame.len() < 4096 && frame.windows(12).any(|text| text == b"are left out")
        }) {}
    };
    let told = tokio::time::timeout(SOON, told).await;
    told.expect("it is told what it missed");
}

#[tokio::test]
async fn a_client_that_reads_slowly_takes_nothing_from_one_that_keeps_up() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let deadline = tokio::time::Instant::now() + START;
    let mut slow = Subscriber::connect(served.info.address(Channel::Iopub), deadline)
        .await
        .unwrap();
    let trickle = tokio::spawn(async move {
        while slow.recv().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let code = "
from IPython.display import display
for n in range(1500): display({'text/plain': str(n).ljust(1 << 16)}, raw=True)";
    let ran = collect(&mut client.request(Channel::Shell, cell(code))).await;
    trickle.abort();
    let shown = ran
        .others
        .iter()
        .filter(|message| matches!(message.content, Content::DisplayData(_)));
    assert!(ran.whole());
    assert_eq!(shown.count(), 1500);
}

#[tokio::test]
async fn only_the_client_that_is_asked_can_answer() {
    let served = Served::start(Transport::Ipc);
    let (asked, other) = (served.client().await, served.client().await);
    let mut exchange = asked.request(Channel::Shell, cell("print(input('?'))"));
    let question = loop {
        match next(&mut exchange).await.unwrap() {
            Popped::Item(Incoming::Input(question)) => break question,
            Popped::Item(_) => {}
            gap => panic!("{gap:?}"),
        }
    };
    other.answer_input(&question, "of another".into());
    // In order behind it, on the same connections.
    other.info().await.unwrap();
    asked.answer_input(&question, "mine".into());
    assert_eq!(collect(&mut exchange).await.stdout, "mine\n");
}

#[tokio::test]
async fn who_asks_is_told_at_once_who_the_kernel_is_and_why_a_cell_waits() {
    // A kernel that takes its time: the bridge answers for it meanwhile.
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("kernels/slow");
    std::fs::create_dir_all(&folder).unwrap();
    let python = crate::support::kernels::python()
        .executable
        .display()
        .to_string();
    let script = format!("sleep 3; exec {python} -m ipykernel_launcher -f \"$0\"");
    // And that prints something before it has anything to do.
    let startup = data.path().join("profile_default/startup");
    std::fs::create_dir_all(&startup).unwrap();
    std::fs::write(startup.join("said.py"), "import os; os.write(2, b'noise')").unwrap();
    let spec = json!({"argv": ["/bin/sh", "-c", script, "{connection_file}"], "display_name": "slow", "language": "python"});
    std::fs::write(folder.join("kernel.json"), spec.to_string()).unwrap();
    let served = Served::before_it_starts(Transport::Ipc);
    let mut command = served.command(&["--mode", "local", "--kernel", "slow"]);
    command
        .env("JUPYTER_PATH", data.path())
        .env("IPYTHONDIR", data.path());
    let _child = process::Ended(command.spawn().unwrap());
    let client = served.connect().await;
    let info = client.info().await.unwrap();
    assert_eq!(info.language_info.name, "python");
    // What a terminal is told stays there for ever; a front end that names the cell clears it.
    let mut plain = client.request(Channel::Shell, cell("print('plain')"));
    let named = Map::from_iter([("cellId".to_owned(), json!("1"))]);
    let mut exchange = client.request_with(Channel::Shell, cell("print('ran')"), named, Vec::new());
    let waits = printed(&mut exchange, "Heddle starts a kernel").await;
    assert!(!waits.stdout.contains("ran"));
    assert_eq!(waits.states, [ExecutionState::Busy]);
    let ran = collect(&mut plain).await;
    assert!(ran.whole() && ran.stdout == "plain\n", "{ran:?}");
    let ran = collect(&mut exchange).await;
    assert_eq!(ran.stdout, "ran\n");
    assert_eq!(ran.states, [ExecutionState::Idle]);
    assert!(
        ran.others
            .iter()
            .any(|message| matches!(&message.content, Content::ClearOutput(clear) if !clear.wait)),
        "what was said about the wait goes with it"
    );
    // What the kernel printed before that stands in no front end's way.
    let wait = Duration::from_millis(100);
    while let Ok(Some(other)) = tokio::time::timeout(wait, client.others()).await {
        let Popped::Item(other) = other else {
            panic!("{other:?}")
        };
        assert!(!matches!(other.content, Content::Stream(_)), "{other:?}");
    }
}

#[tokio::test]
async fn a_quiet_request_gets_no_output_and_keeps_the_count() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let quiet = ExecuteRequest {
        code: "x = 1".into(),
        silent: true,
        ..ExecuteRequest::default()
    };
    let ran = collect(&mut client.request(Channel::Shell, quiet.into())).await;
    assert!(ran.reply.is_some());
    let ran = run(&client, "x").await;
    assert_eq!(ran.reply.unwrap().execution_count, Some(2));
}

/// The next reply that comes to a client without any help.
async fn reply_of(dealer: &mut Dealer) -> (String, Content) {
    let frames = tokio::time::timeout(SOON, dealer.receiver.recv()).await;
    let reply = RawMessage::parse(frames.unwrap().unwrap()).unwrap();
    let parent = reply.parent_msg_id().unwrap().into_owned();
    let msg_type = reply.peek().unwrap().msg_type.into_owned();
    (parent, Content::decode(&msg_type, &reply.content))
}

#[tokio::test]
async fn a_client_that_is_killed_and_comes_back_under_its_name_goes_on() {
    let served = Served::start(Transport::Tcp);
    served.client().await;
    let connect = async || {
        let deadline = tokio::time::Instant::now() + START;
        let address = served.info.address(Channel::Shell);
        Dealer::connect(address, "me", deadline).await.unwrap()
    };
    let signer = Signer::new("hmac-sha256", b"secret").unwrap();
    let send_to = async |dealer: &mut Dealer, content: Content| {
        let message = Message::request(content, "mine", "user");
        let mut raw = message.encode();
        signer.sign(&mut raw);
        dealer.sender.send(raw.into_frames()).await.unwrap();
        message.header.msg_id
    };
    let send = async |dealer: &mut Dealer, code: &str| send_to(dealer, cell(code)).await;
    // Where its old connection is known to be closed, and where nobody has noticed yet.
    for noticed in [true, false] {
        let begun = served.folder.path().join(format!("begun-{noticed}"));
        let go = served.folder.path().join(format!("go-{noticed}"));
        let code = format!(
            "import os, time\nopen({begun:?}, 'w').close()\nwhile not os.path.exists({go:?}): time.sleep(0.01)\nx = 5"
        );
        let mut killed = Some(connect().await);
        let asked = send(killed.as_mut().unwrap(), &code).await;
        process::within(SOON, "the cell runs", || begun.exists()).await;
        killed.take_if(|_| noticed);
        let mut back = connect().await;
        // Whoever knows its name could come under it: the first that it says, with the key, makes it the one.
        let hello = send_to(&mut back, KernelInfoRequest {}.into()).await;
        assert_eq!(reply_of(&mut back).await.0, hello);
        std::fs::write(&go, "").unwrap();
        let (parent, reply) = reply_of(&mut back).await;
        assert_eq!(parent, asked);
        assert!(matches!(reply, Content::ExecuteReply(reply) if reply.status == ReplyStatus::Ok));
        let asked = send(&mut back, "assert x == 5").await;
        let (parent, reply) = reply_of(&mut back).await;
        assert_eq!(parent, asked);
        assert!(matches!(reply, Content::ExecuteReply(reply) if reply.status == ReplyStatus::Ok));
        drop(killed);
    }
}

//! Our client and real kernels.

use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle::kernel::{Client, Incoming, KernelError};
use heddle::protocol::content::{
    CommMsg, CommOpen, ExecuteRequest, ExecutionState, InterruptRequest, KernelInfoRequest,
    ReplyStatus,
};
use heddle::protocol::{
    Channel, ConnectionInfo, Content, Message, ProtocolError, RawMessage, Transport, Verifier,
};
use heddle::transport::{Dealer, Heartbeat, Popped, Subscriber};
use serde_json::{Map, json};

use crate::support::kernels::{cell, collect, connection, next, printed, run, start};

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_is_asked_and_runs_cells_over_both_transports() {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let kernel = start(transport).await;
        let client = kernel.client();
        let info = client.info().await.unwrap();
        assert_eq!(info.implementation, "ipython");
        let reply = client
            .ask(Channel::Control, KernelInfoRequest {}.into())
            .await
            .unwrap();
        assert!(matches!(reply.content, Content::KernelInfoReply(_)));

        let ran = run(client, "print('out')\n1 + 1").await;
        assert_eq!(
            (ran.stdout.as_str(), ran.value.as_deref()),
            ("out\n", Some("2"))
        );
        let reply = ran.reply.as_ref().unwrap();
        assert_eq!(
            (reply.status, reply.execution_count),
            (ReplyStatus::Ok, Some(1))
        );
        assert!(ran.whole());

        let ran = run(client, "1 / 0").await;
        assert_eq!(ran.error.as_ref().unwrap().0, "ZeroDivisionError");
        assert_eq!(ran.reply.as_ref().unwrap().status, ReplyStatus::Error);
        assert!(ran.whole());
        assert_eq!(client.unverified(), 0);
        kernel.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_expressions_are_answered_in_the_reply() {
    let kernel = start(Transport::Ipc).await;
    run(kernel.client(), "x = 41;").await;
    let request = ExecuteRequest {
        silent: true,
        store_history: false,
        user_expressions: [
            ("good".to_owned(), json!("x + 1")),
            ("bad".to_owned(), json!("y")),
        ]
        .into_iter()
        .collect(),
        ..ExecuteRequest::default()
    };
    let ran = collect(&mut kernel.client().request(Channel::Shell, request.into())).await;
    let answers = ran.reply.unwrap().user_expressions;
    assert_eq!(answers["good"]["data"]["text/plain"], "42");
    assert_eq!(answers["bad"]["ename"], "NameError");
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_is_asked_for_and_answered() {
    let kernel = start(Transport::Ipc).await;
    let client = kernel.client();
    for number in 0..3 {
        let mut exchange = client.request(
            Channel::Shell,
            cell("import getpass; (input('name? '), getpass.getpass('secret? '))"),
        );
        let (mut prompts, mut value) = (Vec::new(), None);
        while let Some(popped) = next(&mut exchange).await {
            match popped {
                Popped::Item(Incoming::Input(request)) => {
                    let Content::InputRequest(input) = &request.content else {
                        panic!("{request:?}")
                    };
                    prompts.push((input.prompt.clone(), input.password));
                    client.answer_input(&request, format!("answer {number}"));
                }
                Popped::Item(Incoming::Output(message)) => {
                    if let Content::ExecuteResult(result) = message.content {
                        value = Some(result.data["text/plain"].clone());
                    }
                }
                _ => {}
            }
        }
        assert_eq!(
            prompts,
            [("name? ".into(), false), ("secret? ".into(), true)]
        );
        let answer = format!("('answer {number}', 'answer {number}')");
        assert_eq!(value, Some(json!(answer)));
    }
    kernel.shutdown().await;
}

/// A comm message has no reply: its exchange ends with its `idle`.
#[tokio::test(flavor = "multi_thread")]
async fn comm_messages_with_buffers_go_both_ways() {
    let kernel = start(Transport::Ipc).await;
    let client = kernel.client();
    let target = "
def opened(comm, open_message):
    @comm.on_msg
    def answer(message):
        doubled = [bytes(b) * 2 for b in message['buffers']]
        comm.send({'got': message['content']['data']}, buffers=doubled)
get_ipython().kernel.comm_manager.register_target('echo', opened)";
    assert!(run(client, target).await.error.is_none());
    let open = CommOpen {
        comm_id: "c1".into(),
        target_name: "echo".into(),
        ..CommOpen::default()
    };
    let opened = collect(&mut client.request(Channel::Shell, open.into())).await;
    assert!(opened.whole() && opened.others.is_empty(), "{opened:?}");

    let message = CommMsg {
        comm_id: "c1".into(),
        data: [("n".to_owned(), json!(1))].into_iter().collect(),
    };
    let buffers = vec![
        Bytes::from_static(b"\x00\xffab"),
        Bytes::from(vec![7; 300_000]),
    ];
    let mut exchange = client.request_with(Channel::Shell, message.into(), Map::new(), buffers);
    let answered = collect(&mut exchange).await;
    let [answer] = &answered.others[..] else {
        panic!("{answered:?}")
    };
    let Content::CommMsg(content) = &answer.content else {
        panic!("{answer:?}")
    };
    assert_eq!(content.data["got"], json!({"n": 1}));
    assert_eq!(answer.buffers[0], &b"\x00\xffab\x00\xffab"[..]);
    assert_eq!(answer.buffers[1].len(), 600_000);
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_connects_while_the_first_ones_cell_runs() {
    let kernel = start(Transport::Ipc).await;
    let first = kernel.client();
    let mut running = first.request(
        Channel::Shell,
        cell("print('begun', flush=True)\nimport time; time.sleep(4); x = 7"),
    );
    printed(&mut running, "begun").await;
    let begun = Instant::now();
    let second = Client::connect(&connection(&kernel), soon()).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let of_second = run(&second, "x").await;
    assert_eq!(of_second.value.unwrap(), "7");
    let of_first = collect(&mut running).await;
    assert!(of_first.states == [ExecutionState::Idle] && of_first.value.is_none());
    // What the first one did is seen by the second, as another's.
    assert!(matches!(second.others().await, Some(Popped::Item(_))));
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_requests_gets_its_own_answers() {
    let kernel = start(Transport::Ipc).await;
    let exchanges: Vec<_> = (0..50)
        .map(|number| {
            let code = format!("print({number})\n{number} * 2");
            kernel.client().request(Channel::Shell, cell(&code))
        })
        .collect();
    // The last is read first, with all the others waiting.
    for (number, mut exchange) in exchanges.into_iter().enumerate().rev() {
        let ran = collect(&mut exchange).await;
        assert_eq!(ran.stdout, format!("{number}\n"));
        assert_eq!(ran.value.unwrap(), (number * 2).to_string());
    }
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_request_ends_a_cell() {
    let kernel = start(Transport::Ipc).await;
    let client = kernel.client();
    let mut running = client.request(
        Channel::Shell,
        cell("print('begun', flush=True)\nimport time; time.sleep(100)"),
    );
    printed(&mut running, "begun").await;
    let reply = client
        .ask(Channel::Control, InterruptRequest {}.into())
        .await
        .unwrap();
    assert!(matches!(reply.content, Content::InterruptReply(_)));
    assert_eq!(
        collect(&mut running).await.error.unwrap().0,
        "KeyboardInterrupt"
    );
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_wrong_key_everything_is_dropped_and_the_error_says_so() {
    let kernel = start(Transport::Ipc).await;
    let file = std::fs::read_to_string(kernel.connection_file()).unwrap();
    let mut wrong: serde_json::Value = serde_json::from_str(&file).unwrap();
    wrong["key"] = json!("not the key");
    let wrong = ConnectionInfo::from_json(wrong.to_string().as_bytes()).unwrap();
    let asked = tokio::time::Instant::now();
    let error = Client::connect(&wrong, asked + Duration::from_secs(1))
        .await
        .err()
        .unwrap();
    assert!(asked.elapsed() < Duration::from_secs(4));
    let KernelError::NotReady { unverified } = error else {
        panic!("{error}")
    };
    assert!(unverified >= 1);
    assert!(
        error.to_string().contains("not signed with our key"),
        "{error}"
    );
    assert_eq!(run(kernel.client(), "1 + 1").await.value.unwrap(), "2");
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_is_echoed_while_a_cell_runs_and_not_after_the_death() {
    let kernel = start(Transport::Ipc).await;
    let address = connection(&kernel).address(Channel::Heartbeat);
    let mut heartbeat = Heartbeat::connect(address, soon()).await.unwrap();
    let mut running = kernel.client().request(
        Channel::Shell,
        cell("print('begun', flush=True)\nimport time; time.sleep(1)"),
    );
    printed(&mut running, "begun").await;
    for _ in 0..10 {
        assert!(heartbeat.beat(Duration::from_secs(5)).await.unwrap());
    }
    kernel.kill();
    assert!(collect(&mut running).await.died.is_some());
    let beat = heartbeat.beat(Duration::from_secs(1)).await;
    assert!(!matches!(beat, Ok(true)), "{beat:?}");
}

/// What a real kernel has sent is passed on by hand: once is taken, twice is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_message_is_refused() {
    let kernel = start(Transport::Ipc).await;
    let info = connection(&kernel);
    let mut iopub = Subscriber::connect(info.address(Channel::Iopub), soon())
        .await
        .unwrap();
    let mut shell = Dealer::connect(info.address(Channel::Shell), "by hand", soon())
        .await
        .unwrap();
    let signer = info.signer().unwrap();
    let verifier = Verifier::new(signer.clone());
    let mut request = Message::request(KernelInfoRequest {}, "s", "u").encode();
    signer.sign(&mut request);
    shell
        .sender
        .send(request.clone().into_frames())
        .await
        .unwrap();
    for frames in [
        shell.receiver.recv().await.unwrap(),
        iopub.recv().await.unwrap(),
    ] {
        let received = RawMessage::parse(frames).unwrap();
        verifier.verify(&received).unwrap();
        let again = verifier.verify(&received);
        assert!(matches!(again, Err(ProtocolError::Replayed)), "{again:?}");
    }
    // The kernel refuses ours as well, which shows that both mean the same by it.
    shell.sender.send(request.into_frames()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(500), shell.receiver.recv()).await;
    assert!(answer.is_err());
    kernel.shutdown().await;
}

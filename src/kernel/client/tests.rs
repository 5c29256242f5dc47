use super::*;
use crate::protocol::content::{ExecuteReply, ExecuteRequest, Status};
use crate::transport::{Publisher, Router};

/// A kernel that answers everything and publishes the `idle` of every request except executions, as one does whose
/// publisher's queue was full at that moment.
async fn forgetful_kernel(info: ConnectionInfo) {
    let bind = |channel| Router::bind(info.address(channel));
    let mut shell = bind(Channel::Shell).await.unwrap();
    let _control = bind(Channel::Control).await.unwrap();
    let _stdin = bind(Channel::Stdin).await.unwrap();
    let iopub = Publisher::bind(info.address(Channel::Iopub), |_, _| Vec::new())
        .await
        .unwrap();
    let signer = info.signer().unwrap();
    let frames = |message: &Message| {
        let mut raw = message.encode();
        signer.sign(&mut raw);
        raw.into_frames()
    };
    while let Some(request) = shell.recv().await {
        let request = Message::decode(RawMessage::parse(request).unwrap()).unwrap();
        let executes = matches!(request.content, Content::ExecuteRequest(_));
        let reply = match executes {
            true => Content::ExecuteReply(ExecuteReply::default()),
            false => Content::KernelInfoReply(KernelInfoReply::default()),
        };
        shell
            .sender
            .send(frames(&Message::reply_to(&request, reply)));
        if !executes {
            let execution_state = ExecutionState::Idle;
            let idle = Message::request(Status { execution_state }, "kernel", "");
            iopub
                .sender
                .publish(&frames(&idle.as_child_of(&request)), true);
        }
    }
}

#[tokio::test]
async fn an_execution_whose_idle_was_lost_ends_with_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("k");
    let info = ConnectionInfo::ipc(prefix.to_str().unwrap(), "key".into()).unwrap();
    let kernel = tokio::spawn(forgetful_kernel(info.clone()));

    let deadline = Instant::now() + Duration::from_secs(10);
    let client = Client::connect(&info, deadline).await.unwrap();
    let execute = Content::ExecuteRequest(ExecuteRequest::default());
    let mut exchange = client.request(Channel::Shell, execute);
    let mut last = None;
    let ended = async {
        while let Some(popped) = exchange.next().await {
            last = Some(popped);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("it waits for ever");
    assert!(matches!(last, Some(Popped::Gap { .. })), "{last:?}");
    kernel.abort();
}

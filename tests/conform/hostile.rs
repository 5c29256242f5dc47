//! Kernels that mean harm: the examination ends, in time, with a report.

use std::time::{Duration, Instant};

use heddle::conform::{Target, Verdict, examine};
use heddle::protocol::content::{KernelInfoReply, Stream};
use heddle::protocol::{Channel, ConnectionInfo, Message, RawMessage, Transport};
use heddle::transport::{Frames, Publisher, Router};

use crate::support::conformance::Report;
use crate::support::process::resident;
use crate::support::scripted_kernel::{connection, gap};

/// Ends with the test.
struct Ending(tokio::task::JoinHandle<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn frames(info: &ConnectionInfo, message: Message) -> Frames {
    let mut raw = message.encode();
    info.signer().unwrap().sign(&mut raw);
    raw.into_frames()
}

/// Answers `kernel_info_request` if it `answers` at all, and publishes output of nobody's without end.
async fn noisy(info: &ConnectionInfo, answers: bool) -> Ending {
    let mut shell = Router::bind(info.address(Channel::Shell)).await.unwrap();
    let control = Router::bind(info.address(Channel::Control)).await.unwrap();
    let stdin = Router::bind(info.address(Channel::Stdin)).await.unwrap();
    let iopub = Publisher::bind(info.address(Channel::Iopub), gap)
        .await
        .unwrap();
    let noise = Stream {
        name: "stdout".into(),
        text: "noise".repeat(200),
    };
    let noise = frames(info, Message::request(noise, "noisy", "kernel"));
    let info = info.clone();
    Ending(tokio::spawn(async move {
        // Whole, or it would not listen.
        let (_control, _stdin, iopub) = (control, stdin, iopub);
        loop {
            let request = tokio::select! {
                biased;
                Some(request) = shell.recv() => request,
                () = tokio::task::yield_now() => {
                    iopub.sender.publish(&noise, false);
                    iopub.sender.ready().await;
                    continue;
                }
            };
            let asked = RawMessage::parse(request).and_then(Message::decode);
            if let Ok(asked) = asked
                && answers
                && asked.header.msg_type == "kernel_info_request"
            {
                let reply = Message::reply_to(&asked, KernelInfoReply::default());
                shell.sender.send(frames(&info, reply));
            }
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn output_without_end_does_not_hold_up_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (info, _) = connection(Transport::Ipc, folder.path());
    let _kernel = noisy(&info, true).await;
    let before = resident();
    let begun = Instant::now();
    let report = Report::of(Target::Running(Box::new(info))).await;
    assert!(
        begun.elapsed() < Duration::from_secs(120),
        "{:?}",
        begun.elapsed()
    );
    let failed = report.with(Verdict::Fail);
    assert!(
        failed.contains_key("busy comes first and idle last on shell"),
        "{failed:#?}"
    );
    assert!(
        failed.contains_key("no signature comes twice"),
        "{failed:#?}"
    );
    let grown = resident().saturating_sub(before) >> 20;
    assert!(grown < 400, "{grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_never_answers_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (info, _) = connection(Transport::Ipc, folder.path());
    let _kernel = noisy(&info, false).await;
    let begun = Instant::now();
    let target = Target::Running(Box::new(info));
    let error = examine(target, &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("did not become ready"), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

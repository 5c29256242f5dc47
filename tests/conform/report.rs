//! ipykernel's report, from the library and from the command line.

use std::process::Command;
use std::time::{Duration, Instant};

use heddle::conform::{Target, Verdict, examine};
use heddle::protocol::Transport;
use serde_json::Value;

use crate::support::conformance::Report;
use crate::support::kernels::{command, connection, options, python, run, start};

/// What ipykernel 7 does not do: its iopub socket tells it of the first subscription to a topic, not of later ones.
const IPYKERNEL_FAILS: &[&str] = &["iopub_welcome greets a second subscriber"];

#[tokio::test(flavor = "multi_thread")]
async fn ipykernel_keeps_to_the_protocol_over_both_transports() {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let begun = Instant::now();
        let report = Report::of(Target::Start(Box::new(options(transport)))).await;
        report.assert_failed(IPYKERNEL_FAILS);
        report.assert_with(Verdict::NotSupported, &[]);
        // Seconds; far more than that on a busy machine is a check that hangs.
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "{:?}",
            begun.elapsed()
        );
    }
}

/// Nothing that could end it is tried, and it goes on for whoever started it.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_kernel_is_examined_and_lives() {
    let kernel = start(Transport::Ipc).await;
    run(kernel.client(), "kept = 7").await;
    let report = Report::of(Target::Running(Box::new(connection(&kernel)))).await;
    // Our own subscription came before that of the check.
    let failed = report.with(Verdict::Fail);
    assert!(failed.is_empty(), "{failed:#?}");
    for check in &report.checks {
        let tried = check.verdict != Verdict::NotSupported;
        let endangers = ["malformed messages", "lifecycle"].contains(&check.family);
        assert!(
            tried != endangers || check.name.contains("welcome"),
            "{check:?}"
        );
    }
    assert_eq!(run(kernel.client(), "kept").await.value.unwrap(), "7");
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_cannot_be_started_is_an_error() {
    let exits = command(&["sh", "-c", "echo no licence >&2; exit 4"]);
    let target = Target::Start(Box::new(exits));
    let error = examine(target, &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("no licence"), "{error}");
}

/// Standard output and the exit code.
fn heddle(args: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_heddle"))
        .args(args)
        .env("PATH", python().executable.parent().unwrap())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code().unwrap(),
    )
}

#[test]
fn the_command_line_tells_a_line_a_check_and_ends_with_the_tally() {
    let (out, err, code) = heddle(&["conform", "python3"]);
    assert_eq!(code, 1, "one check fails: {out}{err}");
    assert!(err.contains("mode local"), "{err}");
    assert!(
        out.contains("\nwire\n✓ a forged message is not answered\n"),
        "{out}"
    );
    let failure = "✗ iopub_welcome greets a second subscriber: the second got none\n    expected: ";
    assert!(out.contains(failure), "{out}");
    let last = out.lines().last().unwrap();
    assert!(
        last.starts_with("python3: ") && last.contains(" passed, 1 failed, 0 not supported, in "),
        "{last}"
    );

    let (out, _, code) = heddle(&["conform", "--json", "python3", "--transport", "ipc"]);
    assert_eq!(code, 1);
    let mut lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let summary = lines.pop().unwrap()["summary"].clone();
    assert_eq!(
        (&summary["kernel"], &summary["failed"]),
        (&"python3".into(), &1.into())
    );
    assert_eq!(
        summary["passed"].as_u64().unwrap() as usize + 1,
        lines.len()
    );
    for line in lines {
        assert!(
            line["family"].is_string() && line["expected"].is_string() && line["seen"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_kernel_that_is_not_there_is_exit_code_3_and_wrong_use_2() {
    let (out, err, code) = heddle(&["conform", "nosuch"]);
    assert_eq!((out.as_str(), code), ("", 3));
    assert!(err.contains("there is no kernel named \"nosuch\""), "{err}");
    let (out, err, code) = heddle(&["conform", "/no/such/connection.json"]);
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    assert!(err.contains("/no/such/connection.json"), "{err}");
    assert_eq!(heddle(&["conform"]).2, 2);
}

//! Kernels that are broken on purpose: each fault is found, by the check whose name says so.

use heddle::conform::{Target, Verdict};

use crate::relay::faulty;
use crate::support::conformance::Report;

async fn assert_found(fault: &str, checks: &[&str]) {
    let report = Report::of(Target::Start(Box::new(faulty(fault)))).await;
    report.assert_failed(checks);
}

/// Each fault, and all checks that it fails.
macro_rules! faults {
    ($($test:ident: $fault:literal => [$($check:literal),* $(,)?];)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            assert_found($fault, &[$($check),*]).await;
        })*
    };
}

faults! {
    a_missing_idle: "drops idle" => [
        "busy comes first and idle last on shell",
        "busy comes first and idle last on control",
    ];
    a_late_result: "sends idle before the result" => [
        "busy comes first and idle last on shell",
        "a value is an execute_result",
        "variables stay",
    ];
    another_parent: "gives replies another parent" => ["parent_header is the request's header"];
    a_bad_signature: "signs streams wrongly" => ["signatures verify"];
    a_repeated_signature: "sends clear_output twice" => [
        "no signature comes twice",
        "msg_ids are unique",
    ];
    a_forged_request: "answers forged messages" => [
        "a forged message is not answered",
        "a forged message on control is not answered",
        "an unsigned message is not answered",
        "an altered message is not answered",
    ];
    a_replayed_request: "answers replayed messages" => ["a replayed message is not answered"];
    no_execute_input: "sends no execute_input" => [
        "execute_input comes before any output",
        "text beyond ASCII comes back",
        "other clients see what runs",
    ];
    replies_to_everyone: "answers everyone" => [
        "a reply goes to the client that asked",
        "other clients see what runs",
        "parent_header is the request's header",
    ];
    no_interrupt: "ignores interrupts" => ["an interrupt ends the running code"];
    no_shutdown_reply: "gives no shutdown_reply" => [
        "shutdown_request for a restart is answered",
        "shutdown_request is answered",
    ];
    input_against_the_clients_will: "ignores allow_stdin" => [
        "no input is asked for without allow_stdin",
    ];
    noise_where_silence_was_asked_for: "ignores silent" => [
        "silent gives no result and is not counted",
    ];
    a_queue_that_goes_on: "ignores stop_on_error" => ["stop_on_error aborts what is queued"];
    a_date_without_zone: "gives dates without a zone" => ["dates have a zone"];
    a_repeated_msg_id: "repeats a msg_id" => ["msg_ids are unique"];
    positions_in_utf_16: "counts in UTF-16" => ["completion counts in code points"];
    no_heartbeat: "has no heartbeat" => [
        "the heartbeat is echoed",
        "the heartbeat is echoed while code runs",
    ];
    a_death_of_no_message: "dies of what is no message" => [
        "frames without a delimiter are dropped",
        "a message of too few frames is dropped",
    ];
}

/// Else the faults above might be the relay's own.
#[tokio::test(flavor = "multi_thread")]
async fn an_unbroken_relay_passes() {
    let report = Report::of(Target::Start(Box::new(faulty("")))).await;
    report.assert_failed(&[]);
    report.assert_with(Verdict::NotSupported, &[]);
    assert!(report.with(Verdict::Pass).len() > 80);
}

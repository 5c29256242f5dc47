//! A kernel that is not Python: Deno, which the Python package index has as a wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use heddle::conform::{Target, Verdict};
use heddle::kernel::Choice;
use heddle::kernel::Options;
use heddle::kernel::discovery::Installed;
use heddle::protocol::{KernelSpec, Transport};

use crate::support::conformance::Report;
use crate::support::kernels::{options, python};

/// Installs what `tests/support/deno.txt` pins, once for all runs.
fn deno() -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/deno.txt");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deno-2.9.8");
    let program = folder.join("bin/deno");
    if !program.exists() {
        let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let installed = Command::new(&python().executable)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--only-binary",
                ":all:",
            ])
            .arg("--target")
            .arg(fresh.path())
            .arg("--requirement")
            .arg(&pinned)
            .output()
            .unwrap();
        assert!(
            installed.status.success(),
            "the kernel of another language cannot be installed from the package index: {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        // Of two that install it at a time, one is first.
        if std::fs::rename(fresh.path(), &folder).is_ok() {
            let _ = fresh.keep();
        }
    }
    assert!(program.exists(), "{} is not there", program.display());
    program
}

fn kernel() -> Options {
    let program = deno();
    let argv = [
        program.to_str().unwrap(),
        "jupyter",
        "--kernel",
        "--conn",
        "{connection_file}",
    ];
    Options {
        choice: Choice::Installed(Box::new(Installed {
            precautions: Default::default(),
            name: "deno".into(),
            folder: PathBuf::new(),
            prefix: None,
            spec: Ok(KernelSpec {
                argv: argv.map(str::to_owned).into(),
                language: "typescript".into(),
                // It would look for its newest version.
                env: [("DENO_NO_UPDATE_CHECK".to_owned(), "1".to_owned())].into(),
                ..KernelSpec::default()
            }),
        })),
        ..options(Transport::Tcp)
    }
}

/// What it does in every run; whether its outputs come before its `idle` differs from one to the next.
#[tokio::test(flavor = "multi_thread")]
async fn deno_is_reported_truthfully() {
    let report = Report::of(Target::Start(Box::new(kernel()))).await;
    let failed = report.with(Verdict::Fail);
    for name in [
        "busy comes first and idle last on control",
        "user_expressions are answered in the reply",
        "stop_on_error aborts what is queued",
        "input is asked of the client that sent the cell",
        "comm_open of an unknown target is closed",
        "an interrupt ends the running code",
        "a replayed message is not answered",
        "replies have the type and the channel of their request",
    ] {
        assert!(failed.contains_key(name), "{name} should fail: {failed:#?}");
    }
    let passed = report.with(Verdict::Pass);
    for name in [
        "starts and answers",
        "execute_reply is complete",
        "an error is published and replied",
        "completion counts in code points",
        "input is asked for on stdin",
        "the heartbeat is echoed while code runs",
        "control answers while code runs",
        "a forged message is not answered",
        "signatures verify",
        "parent_header is the request's header",
        "frames without a delimiter are dropped",
        "a new kernel serves the same connection file",
        "the kernel ends",
    ] {
        assert!(
            passed.contains_key(name),
            "{name} should pass: {:#?}",
            report.checks
        );
    }
    let not_supported = report.with(Verdict::NotSupported);
    assert!(not_supported["debugInfo is answered"].contains("does not announce"));
    let sample = "no sample code for typescript that asks for a password";
    assert_eq!(not_supported["a password is asked for as one"], sample);
}

//! What Jupyter itself asks of a kernel: jupyter_kernel_test in every mode, where Heddle has to pass what a plain
//! ipykernel passes, and a debugger, which that list leaves out.

use std::sync::OnceLock;

use crate::host::with_host;
use crate::jupyter::{Jupyter, file, said};

/// Runs the list against an installed kernel: every test with its verdict, in order.
async fn verdicts(jupyter: &Jupyter, kernel: &str) -> Vec<String> {
    let output = jupyter
        .try_run(
            "python",
            &[&file("kernel_test.py")],
            &[("HEDDLE_TEST_KERNEL", kernel)],
        )
        .await;
    let said = said(&output);
    assert!(output.status.success(), "{kernel}: {said}");
    let mut tests = Vec::new();
    for line in said.lines() {
        match line.split_once(" (__main__.") {
            Some((name, _)) if name.starts_with("test_") => tests.push(name.to_owned()),
            _ => {}
        }
        // A verdict may stand behind what a kernel has said meanwhile.
        let verdict = line.rsplit(' ').next().unwrap_or_default();
        if let Some(last) = tests.last_mut() {
            match line.split_once("skipped ") {
                Some((_, why)) => *last += &format!(" without {why}"),
                None if verdict == "ok" => last.push_str(" ok"),
                None => {}
            }
        }
    }
    tests
}

/// The list as ipykernel itself passes it.
async fn known() -> &'static [String] {
    static KNOWN: OnceLock<Vec<String>> = OnceLock::new();
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ONE.lock().await;
    if let Some(known) = KNOWN.get() {
        return known;
    }
    let jupyter = Jupyter::new(Vec::new()).await;
    let passed = verdicts(&jupyter, "python3").await;
    assert_eq!(passed.len(), 13, "{passed:?}");
    // A range of history is no test that it passes itself.
    let skipped = passed.iter().filter(|test| test.contains("without"));
    assert_eq!(skipped.count(), 1, "{passed:?}");
    KNOWN.get_or_init(|| passed)
}

async fn conforms(jupyter: &Jupyter, mode: &str) {
    jupyter.install("heddle", mode).await;
    assert_eq!(verdicts(jupyter, "heddle").await, known().await);
    jupyter.is_quiet().await;
}

#[tokio::test]
async fn heddle_passes_what_ipykernel_passes_in_local_mode() {
    conforms(&Jupyter::new(Vec::new()).await, "local").await;
}

#[tokio::test]
async fn heddle_passes_what_ipykernel_passes_in_the_sandbox() {
    conforms(&Jupyter::new(Vec::new()).await, "sandbox").await;
}

#[test]
fn heddle_passes_what_ipykernel_passes_in_a_container() {
    with_host(async |host| {
        let mut jupyter = Jupyter::new(Vec::new()).await;
        jupyter.world = jupyter.world.with("DOCKER_HOST", host.address());
        conforms(&jupyter, "container").await;
    });
}

#[tokio::test]
async fn a_debugger_stops_a_cell_and_lets_it_go_on() {
    let jupyter = Jupyter::new(Vec::new()).await;
    for mode in ["local", "sandbox"] {
        jupyter.install(mode, mode).await;
        jupyter.python("cells.py", &["debugger", mode]).await;
        jupyter.is_quiet().await;
    }
}

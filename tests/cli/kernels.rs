//! `heddle kernel list` and `--kernel`: which kernelspecs there are, and which Python they mean.

use serde_json::{Value, json};

use crate::heddle::{Heddle, Ran, finish, managed_python};

fn spec(heddle: &Heddle, folder: &str, name: &str, display_name: &str) {
    let spec = json!({
        "argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": display_name, "language": "python"
    });
    heddle.write(
        &format!("{folder}/kernels/{name}/kernel.json"),
        spec.to_string(),
    );
}

/// Runs with `JUPYTER_PATH` naming these folders of the working directory.
fn with_path(heddle: &Heddle, folders: &[&str], args: &[&str]) -> Ran {
    let path =
        std::env::join_paths(folders.iter().map(|folder| heddle.cwd().join(folder))).unwrap();
    finish(
        heddle
            .command(args)
            .env("JUPYTER_PATH", path)
            .spawn()
            .unwrap(),
    )
}

#[test]
fn kernelspecs_are_listed_with_what_is_wrong_with_them() {
    let heddle = Heddle::new();
    spec(&heddle, "one", "mine", "My 内核");
    heddle.write("one/kernels/broken/kernel.json", "{\n \"argv\": 1}");
    heddle.write(
        "one/kernels/empty/kernel.json",
        r#"{"argv": [], "display_name": "E", "language": "e"}"#,
    );
    let ran = with_path(&heddle, &["one"], &["kernel", "list"])
        .assert_code(0)
        .assert_err("");
    let first = format!(
        "Without --kernel: {} (made by Heddle)\n\nNAME ",
        managed_python().display()
    );
    assert!(ran.out.starts_with(&first), "{ran:?}");
    let line = |name: &str| ran.out.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("mine ").contains("My 内核"), "{ran:?}");
    assert!(line("mine ").ends_with("one/kernels/mine"), "{ran:?}");
    assert!(
        line("broken ").contains("cannot be used: kernel.json cannot be read: invalid type"),
        "{ran:?}"
    );
    assert!(
        line("empty ").contains("cannot be used: kernel.json has an empty argv"),
        "{ran:?}"
    );
    assert!(
        line("python3 ").contains("Python 3 (ipykernel)"),
        "the one of Heddle's own environment: {ran:?}"
    );

    let ran = with_path(&heddle, &["one"], &["kernel", "list", "--json"])
        .assert_code(0)
        .assert_err("");
    let listed: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(listed["python"], managed_python().to_str().unwrap());
    let named = |name: &str| {
        let kernels = listed["kernels"].as_array().unwrap().iter();
        kernels
            .filter(|kernel| kernel["name"] == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(named("mine")[0]["spec"]["display_name"], "My 内核");
    assert!(
        named("broken")[0]["problem"]
            .as_str()
            .unwrap()
            .contains("line 2")
    );
}

#[test]
fn the_first_on_jupyter_path_counts() {
    let heddle = Heddle::new();
    spec(&heddle, "one", "mine", "One");
    spec(&heddle, "two", "mine", "Two");
    for (folders, name) in [(["one", "two"], "One"), (["two", "one"], "Two")] {
        let ran = with_path(&heddle, &folders, &["kernel", "list"]);
        let lines: Vec<&str> = ran
            .out
            .lines()
            .filter(|line| line.starts_with("mine "))
            .collect();
        assert_eq!(lines.len(), 1, "{ran:?}");
        assert!(lines[0].contains(name), "{ran:?}");
    }
}

#[test]
fn a_plain_python3_means_the_python_that_has_ipykernel() {
    let heddle = Heddle::new();
    spec(&heddle, "one", "mine", "One");
    let args = [
        "run",
        "--json",
        "--kernel",
        "MINE",
        "-c",
        "import sys; print(sys.prefix)",
    ];
    let ran = with_path(&heddle, &["one"], &args)
        .assert_code(0)
        .assert_err("");
    assert_eq!(ran.events_of("session")[0]["kernel"], "mine");
    let prefix = managed_python().parent().unwrap().parent().unwrap();
    assert_eq!(
        ran.events_of("stream")[0]["text"],
        format!("{}\n", prefix.display())
    );
}

#[test]
fn a_kernel_that_is_not_there_is_exit_code_3_and_names_those_that_are() {
    let heddle = Heddle::new();
    spec(&heddle, "one", "mine", "One");
    let ran = with_path(&heddle, &["one"], &["run", "--kernel", "nosuch", "-c", "1"])
        .assert_code(3)
        .assert_out("");
    assert!(
        ran.err
            .starts_with("error: there is no kernel named \"nosuch\". Installed: "),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("mine") && ran.err.ends_with("See: heddle kernel list\n"),
        "{ran:?}"
    );
}

#[test]
fn a_kernelspec_that_cannot_start_says_why() {
    let heddle = Heddle::new();
    heddle.write(
        "one/kernels/empty/kernel.json",
        r#"{"argv": [], "display_name": "E", "language": "e"}"#,
    );
    let message = "error: the kernelspec \"empty\" cannot be used: kernel.json has an empty argv\n";
    with_path(&heddle, &["one"], &["run", "--kernel", "empty", "-c", "1"])
        .assert_code(3)
        .assert_err(message);

    let exits = json!({"argv": ["sh", "-c", "echo no licence >&2; exit 4"], "display_name": "X", "language": "x"});
    heddle.write("one/kernels/exits/kernel.json", exits.to_string());
    let message =
        "error: the kernel exited with code 4 before it was ready. It printed:\n    no licence\n";
    with_path(&heddle, &["one"], &["run", "--kernel", "exits", "-c", "1"])
        .assert_code(3)
        .assert_err(message);
}

#[test]
fn an_installed_kernel_keeps_the_python_that_was_made_ready() {
    let heddle = Heddle::new();
    let prefix = heddle.path("prefix");
    let prefix = prefix.to_str().unwrap();
    let installed = ["kernel", "install", "--mode", "local", "--prefix", prefix];
    heddle.run(installed).assert_code(0);
    let spec = format!("{prefix}/share/jupyter/kernels/heddle/kernel.json");
    let spec: Value = serde_json::from_slice(&std::fs::read(spec).unwrap()).unwrap();
    let python = format!("--python={}", managed_python().display());
    assert!(
        spec["argv"].as_array().unwrap().contains(&python.into()),
        "{spec}"
    );
    heddle
        .run(["kernel", "uninstall", "--prefix", prefix])
        .assert_code(0);
}

#[test]
fn a_kernel_that_is_not_there_to_remove_is_no_other_programs() {
    let heddle = Heddle::bare();
    let prefix = heddle.path("prefix");
    let prefix = prefix.to_str().unwrap();
    let message = format!(
        "error: there is no kernel nosuch in {prefix}/share/jupyter/kernels. See: heddle kernel list\n"
    );
    heddle
        .run(["kernel", "uninstall", "--prefix", prefix, "nosuch"])
        .assert_code(2)
        .assert_err(&message);
}

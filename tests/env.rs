//! Packages for a project's kernels: `heddle env`, and what a session asks for. With the real package index, and with
//! wheels that are made here.

mod support;

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use support::model_server::{Answer, ModelServer};
use support::terminal::Terminal;
use support::world::{Ended, World, python};

/// An address at which nobody answers.
const NOWHERE: &str = "http://127.0.0.1:9/simple";

/// A project, and the settings of this machine that lead to the package index.
fn project() -> World {
    project_with("http://127.0.0.1:9/v1")
}

fn project_with(model: &str) -> World {
    let mut world = World::new(model);
    world.file("heddle.toml", "");
    for (name, value) in std::env::vars() {
        if name.starts_with("PIP_") || name == "SSL_CERT_FILE" {
            world = world.with(&name, value);
        }
    }
    world
}

/// Name, version, what it requires, files with their text.
type Wheel<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// A project whose package index is a folder with these wheels.
fn project_with_wheels(wheels: &[Wheel]) -> World {
    let world = project();
    let folder = world.path("wheels");
    std::fs::create_dir(&folder).unwrap();
    let wheels = serde_json::to_string(wheels).unwrap();
    let made = Command::new(python().join("bin/python"))
        .args(["-c", MAKE_WHEELS, &wheels])
        .current_dir(&folder)
        .status();
    assert!(made.unwrap().success());
    world
        .with("PIP_NO_INDEX", "1")
        .with("PIP_FIND_LINKS", folder.display())
}

const MAKE_WHEELS: &str = r#"
import json, sys, zipfile
for name, version, requires, files in json.loads(sys.argv[1]):
    info = f"{name}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {r}\n" for r in requires)
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{f},,\n" for f in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
"#;

async fn add(world: &World, names: &[&str]) -> Ended {
    world.run(&[&["env", "add"], names].concat()).await
}

#[track_caller]
fn assert_code(ended: &Ended, code: i32) {
    assert_eq!(ended.code(), Some(code), "{ended:?}");
}

/// Names that `heddle env list` has.
async fn listed(world: &World) -> Vec<String> {
    let ended = world.run(&["env", "list", "--json"]).await;
    assert_code(&ended, 0);
    let packages = ended.events[0]["packages"].as_array().unwrap();
    let name = |package: &serde_json::Value| package["name"].as_str().unwrap().to_owned();
    packages.iter().map(name).collect()
}

/// The packages' folder of the only Python.
fn overlay(world: &World) -> PathBuf {
    let only = |folder: PathBuf| {
        let folders = std::fs::read_dir(folder).unwrap();
        let folders: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders[0].clone()
    };
    only(only(world.path("data/heddle/packages")))
}

/// A Planner that writes the code itself.
fn short(code: &str) -> Answer {
    let reply = json!({
        "plan_reasoning": "", "init_plan": "", "plan": "", "current_plan_step": "", "code": code,
        "stop": "InProcess", "send_to": "CodeInterpreter", "message": "Run this.",
    });
    Answer::text(&reply.to_string())
}

fn code(code: &str) -> Answer {
    Answer::text(&format!("So:\n```python\n{code}\n```\n"))
}

fn answer(message: &str) -> Answer {
    let reply = json!({
        "plan_reasoning": "", "init_plan": "", "plan": "", "current_plan_step": "", "code": "",
        "stop": "Completed", "send_to": "User", "message": message,
    });
    Answer::text(&reply.to_string())
}

#[tokio::test]
async fn what_is_added_from_the_index_is_pinned_and_can_be_imported_in_every_mode() {
    let world = project();
    let ended = add(&world, &["six", "cowsay"]).await;
    assert_code(&ended, 0);
    assert_eq!(listed(&world).await, ["cowsay", "six"]);
    let lock = std::fs::read_to_string(overlay(&world).join("current/requirements.txt")).unwrap();
    assert_eq!(lock.matches(" --hash=sha256:").count(), 2, "{lock}");
    let import = "import six, cowsay\nprint('heddle/packages' in six.__file__)";
    for mode in ["local", "sandbox"] {
        let ran = world.run(&["run", "--mode", mode, "-c", import]).await;
        assert_eq!(ran.stdout, "True\n", "{mode}: {ran:?}");
    }
    let again = add(&world, &["six"]).await;
    assert_code(&again, 0);
    assert!(again.stderr.contains("six is there already"), "{again:?}");

    assert_code(&world.run(&["env", "remove", "six"]).await, 0);
    assert_eq!(listed(&world).await, ["cowsay"]);
    let ran = world.run(&["run", "-c", "import cowsay, six"]).await;
    assert!(ran.stderr.contains("No module named 'six'"), "{ran:?}");
    let gone = world.run(&["env", "remove", "six"]).await;
    assert_code(&gone, 1);
    assert!(gone.stderr.contains("was not added"), "{gone:?}");
}

#[tokio::test]
async fn without_a_project_they_are_the_persons_own() {
    let world = project_with_wheels(&[("mine", "1.0", &[], &[("mine.py", "")])]);
    std::fs::remove_file(world.desk().join("heddle.toml")).unwrap();
    assert_code(&add(&world, &["mine"]).await, 0);
    assert!(world.path("data/heddle/packages/user").is_dir());
    assert_eq!(std::fs::read_dir(world.desk()).unwrap().count(), 0);
    let import = "import mine\nprint(mine.__file__)";
    let ran = world.run(&["run", "--mode", "sandbox", "-c", import]).await;
    assert!(ran.stdout.contains("data/heddle/packages/user"), "{ran:?}");
}

#[tokio::test]
async fn what_cannot_be_had_says_why_and_changes_nothing() {
    let world = project();
    assert_code(&add(&world, &["six"]).await, 0);
    for (wish, code, words) in [
        ("docopt", 1, "no ready-made package (wheel) of docopt"),
        (
            "no-such-package-of-heddle",
            1,
            "no package no-such-package-of-heddle",
        ),
        ("numpy<2", 1, "The environment has numpy=="),
        ("git+https://example.org/six", 2, "is not the plain name"),
        ("./six", 2, "is not the plain name"),
    ] {
        let ended = add(&world, &["cowsay", wish]).await;
        assert_code(&ended, code);
        assert!(ended.stderr.contains(words), "{wish}: {ended:?}");
        assert_eq!(listed(&world).await, ["six"], "{wish}");
    }
    let world = world
        .with("PIP_INDEX_URL", NOWHERE)
        .with("PIP_NO_INDEX", "0");
    let ended = add(&world, &["cowsay"]).await;
    assert_code(&ended, 1);
    assert!(
        ended.stderr.contains("index cannot be reached"),
        "{ended:?}"
    );
    assert_eq!(listed(&world).await, ["six"]);
}

#[tokio::test]
async fn an_option_in_a_name_is_no_option_of_pips() {
    let world = project();
    let ended = add(&world, &["--", "--index-url=http://127.0.0.1:9"]).await;
    assert_code(&ended, 2);
    assert!(ended.stderr.contains("is not the plain name"), "{ended:?}");
}

#[tokio::test]
async fn two_at_once_both_have_their_way() {
    let world = project_with_wheels(&[
        ("one", "1.0", &["common"], &[("one.py", "")]),
        ("two", "1.0", &["common"], &[("two.py", "")]),
        ("common", "2.0", &[], &[("space/common.py", "")]),
    ]);
    let (one, two) = tokio::join!(add(&world, &["one"]), add(&world, &["two"]));
    assert_code(&one, 0);
    assert_code(&two, 0);
    assert_eq!(listed(&world).await, ["common", "one", "two"]);
    // Of their dependencies, what another one needs stays.
    assert_code(&world.run(&["env", "remove", "one"]).await, 0);
    assert_eq!(listed(&world).await, ["common", "two"]);
    let ran = world.run(&["run", "-c", "import two, space.common"]).await;
    assert_code(&ran, 0);
    assert_code(&world.run(&["env", "remove", "two"]).await, 0);
    assert!(listed(&world).await.is_empty());
    let left = overlay(&world).join("current/site");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
}

#[tokio::test]
async fn a_package_cannot_put_itself_in_the_place_of_the_environments_modules() {
    let evil = "raise SystemExit('shadowed')";
    let world = project_with_wheels(&[(
        "shadow",
        "1.0",
        &[],
        &[
            ("shadow.py", "here = True"),
            ("json/__init__.py", evil),
            ("numpy/__init__.py", evil),
            ("sitecustomize.py", evil),
            ("shadow.pth", "import sys; sys.path.insert(0, '/evil')"),
        ],
    )]);
    assert_code(&add(&world, &["shadow"]).await, 0);
    let code = "import sys, json, numpy, shadow\n\
                print(json.dumps(shadow.here), numpy.arange(3).sum(), '/evil' in sys.path)";
    for mode in ["local", "sandbox"] {
        let ran = world.run(&["run", "--mode", mode, "-c", code]).await;
        assert_eq!(ran.stdout, "true 3 False\n", "{mode}: {ran:?}");
    }
}

/// The host's Python runs pip from here; what lies in the working directory must not be taken for a part of it.
#[tokio::test]
async fn modules_beside_the_project_are_not_run_on_the_host() {
    let world = project_with_wheels(&[("mine", "1.0", &[], &[("mine.py", "")])]);
    let trap = "open('trapped', 'w')\nraise SystemExit(1)";
    for name in ["pip.py", "json.py", "runpy.py", "sitecustomize.py"] {
        world.file(name, trap);
    }
    let desk = world.desk().display().to_string();
    let world = world.with("PYTHONPATH", &desk);
    assert_code(&add(&world, &["mine"]).await, 0);
    assert!(!world.desk().join("trapped").exists());
}

#[tokio::test]
async fn a_sandboxed_kernel_cannot_change_them() {
    let world = project_with_wheels(&[("mine", "1.0", &[], &[("mine.py", "")])]);
    assert_code(&add(&world, &["mine"]).await, 0);
    assert!(!world.desk().join(".heddle").exists());
    let code = r#"
import os, mine
site = os.path.dirname(mine.__file__)
def tries(what, *args):
    try:
        what(*args)
    except OSError:
        return "refused"
    return "done"
print(tries(open, "beside.txt", "w"))
print(tries(open, site + "/evil.py", "w"))
print(tries(open, mine.__file__, "a"))
print(tries(os.mkdir, site + "/../../../other"))
"#;
    let ran = world.run(&["run", "--mode", "sandbox", "-c", code]).await;
    let expected = format!("done\n{}", "refused\n".repeat(3));
    assert_eq!(ran.stdout, expected, "{ran:?}");
    // Where nothing protects them, the same code gets through.
    let ran = world.run(&["run", "--mode", "local", "-c", code]).await;
    assert_eq!(ran.stdout, "done\n".repeat(4), "{ran:?}");
}

/// What earlier versions have installed into a project, with a module and a `.pth` that code has added.
fn old_overlay(world: &World, pins: &str) -> PathBuf {
    let tag = overlay(world).file_name().unwrap().to_owned();
    let folder = world.desk().join(".heddle/packages").join(tag);
    let site = folder.join("generation/site");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(folder.join("generation/requirements.txt"), pins).unwrap();
    std::os::unix::fs::symlink("generation", folder.join("current")).unwrap();
    std::fs::write(site.join("planted.py"), "").unwrap();
    std::fs::write(site.join("mine.py"), "raise SystemExit('planted')").unwrap();
    std::fs::write(site.join("planted.pth"), "import planted").unwrap();
    site
}

#[tokio::test]
async fn what_lies_in_the_project_is_a_proposal_and_is_never_imported() {
    let world = project_with_wheels(&[
        (
            "mine",
            "1.0",
            &[],
            &[("mine.py", "here = 'from the index'")],
        ),
        ("other", "1.0", &[], &[("other.py", "")]),
    ]);
    assert_code(&add(&world, &["other"]).await, 0);
    let site = old_overlay(&world, "mine==1.0  # asked for\n");
    assert_code(&world.run(&["env", "remove", "other"]).await, 0);
    let import = "import mine\nprint(mine.here)";
    for mode in ["local", "sandbox"] {
        for module in ["planted", "mine"] {
            let code = format!("import {module}");
            let ran = world.run(&["run", "--mode", mode, "-c", &code]).await;
            let missing = format!("No module named '{module}'");
            assert!(ran.stderr.contains(&missing), "{mode}: {ran:?}");
            assert!(ran.stderr.contains("heddle env sync"), "{mode}: {ran:?}");
        }
    }
    // The control: it could have been imported from there.
    let add_path = format!(
        "import sys; sys.path.insert(0, {:?}); import planted",
        site.display().to_string()
    );
    assert_code(
        &world
            .run(&["run", "--mode", "local", "-c", &add_path])
            .await,
        0,
    );

    let refused = world.run(&["env", "sync"]).await;
    assert_code(&refused, 2);
    for part in [
        "mine 1.0",
        "nobody is at a terminal",
        "heddle env sync --yes",
    ] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert!(listed(&world).await.is_empty());
    assert_code(&world.run(&["env", "sync", "--yes"]).await, 0);
    let ran = world.run(&["run", "--mode", "sandbox", "-c", import]).await;
    assert_eq!(ran.stdout, "from the index\n", "{ran:?}");
    assert!(!ran.stderr.contains("heddle env sync"), "{ran:?}");
    let again = world.run(&["env", "sync"]).await;
    assert_code(&again, 0);
}

#[tokio::test]
async fn exported_pins_install_the_same_files_elsewhere_when_a_person_agrees() {
    let world = project();
    let nothing = world.run(&["env", "export"]).await;
    assert_code(&nothing, 2);
    assert!(nothing.stderr.contains("heddle env add"), "{nothing:?}");
    assert_code(&add(&world, &["six", "cowsay"]).await, 0);
    // A link in the file's place is replaced.
    let precious = world.path("precious");
    std::fs::write(&precious, "mine").unwrap();
    let file = world.desk().join("heddle-packages.txt");
    std::os::unix::fs::symlink(&precious, &file).unwrap();
    assert_code(&world.run(&["env", "export"]).await, 0);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches(" --hash=sha256:").count(), 2, "{text}");

    let elsewhere = project();
    let proposed = elsewhere.file("heddle-packages.txt", &text);
    let mut terminal = Terminal::start(&elsewhere, &["env", "sync"]);
    let shown = terminal.until("[y/N]").await;
    assert!(
        shown.contains("six ") && shown.contains("sha256:"),
        "{shown}"
    );
    terminal.line("n");
    terminal.until("Nothing was installed").await;
    assert!(terminal.end().await.success());
    assert!(listed(&elsewhere).await.is_empty());
    let mut terminal = Terminal::start(&elsewhere, &["env", "sync"]);
    terminal.until("[y/N]").await;
    terminal.line("y");
    assert!(terminal.end().await.success());
    assert_eq!(listed(&elsewhere).await, ["cowsay", "six"]);

    // Another file than the one that was pinned.
    let at = text.find("--hash=sha256:").unwrap() + "--hash=sha256:".len();
    let forged = format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..]);
    let third = project();
    third.file("heddle-packages.txt", &forged);
    let refused = third.run(&["env", "sync", "--yes"]).await;
    assert_code(&refused, 1);
    assert!(
        refused.stderr.contains("other files than those"),
        "{refused:?}"
    );
    assert!(listed(&third).await.is_empty());

    // What is no pin is refused, and so is a link.
    third.file("heddle-packages.txt", "--index-url http://127.0.0.1:9/\n");
    let refused = third.run(&["env", "sync", "--yes"]).await;
    assert_code(&refused, 2);
    assert!(refused.stderr.contains("no pin of Heddle's"), "{refused:?}");
    std::fs::remove_file(third.desk().join("heddle-packages.txt")).unwrap();
    std::os::unix::fs::symlink(proposed, third.desk().join("heddle-packages.txt")).unwrap();
    let refused = third.run(&["env", "sync", "--yes"]).await;
    assert!(refused.stderr.contains("is a link"), "{refused:?}");
}

/// A chat in which the code needs a package; the person answers the question by `keys`.
async fn chat(world: &World, mode: &str, keys: &str) -> Terminal {
    let mut terminal = Terminal::start(world, &["chat", "--mode", mode]);
    terminal.until("heddle> ").await;
    terminal.line("go");
    terminal
        .until("Install from the package index: cowsay")
        .await;
    terminal.until("Allow it?").await;
    terminal.line(keys);
    terminal
}

#[tokio::test]
async fn a_failed_import_is_asked_for_and_then_works_in_the_running_kernel() {
    for mode in ["local", "sandbox"] {
        let answers = vec![
            short("kept = 41\nimport cowsay"),
            code("import cowsay\nprint('kept', kept + 1, cowsay.__name__)"),
            answer("Moo."),
        ];
        let server = ModelServer::start(answers).await;
        let world = project_with(server.url());
        let mut terminal = chat(&world, mode, "y").await;
        terminal.until("Installed cowsay").await;
        terminal.until("kept 42 cowsay").await;
        terminal.until("Moo.").await;
        terminal.until("heddle> ").await;
        terminal.press("\x04");
        assert!(terminal.end().await.success());
        let requests = server.requests();
        assert!(requests[0].messages()[0].1.contains("Heddle asks the User"));
        let told = requests[1].last();
        assert!(told.contains("Installed cowsay"), "{told}");
        assert!(told.contains("Run the code again"), "{told}");
        assert_eq!(listed(&world).await, ["cowsay"]);
    }
}

#[tokio::test]
async fn a_line_that_calls_pip_is_taken_out_and_done_outside() {
    let answers = vec![
        short("%pip install -q cowsay\nimport cowsay\nprint('said', cowsay.__name__)"),
        answer("Moo."),
    ];
    let server = ModelServer::start(answers).await;
    let world = project_with(server.url());
    let mut terminal = chat(&world, "sandbox", "s").await;
    terminal.until("said cowsay").await;
    terminal.until("Moo.").await;
    terminal.until("heddle> ").await;
    terminal.press("\x04");
    assert!(terminal.end().await.success());
}

#[tokio::test]
async fn a_refusal_and_its_reason_reach_the_model() {
    let answers = vec![
        short("import cowsay"),
        code("print('without')"),
        answer("Done without."),
    ];
    let server = ModelServer::start(answers).await;
    let world = project_with(server.url());
    let mut terminal = chat(&world, "sandbox", "n we have no cows").await;
    terminal.until("Done without.").await;
    terminal.until("heddle> ").await;
    terminal.press("\x04");
    assert!(terminal.end().await.success());
    let requests = server.requests();
    let told = requests[1].last();
    assert!(told.contains("cowsay was not installed"), "{told}");
    assert!(told.contains("we have no cows"), "{told}");
    assert!(listed(&world).await.is_empty());
}

#[tokio::test]
async fn an_index_out_of_reach_is_told_to_the_model() {
    let answers = vec![
        short("import cowsay"),
        code("print('without')"),
        answer("Done without."),
    ];
    let server = ModelServer::start(answers).await;
    let world = project_with(server.url()).with("PIP_INDEX_URL", NOWHERE);
    let mut terminal = chat(&world, "local", "y").await;
    terminal.until("Done without.").await;
    terminal.until("heddle> ").await;
    terminal.press("\x04");
    assert!(terminal.end().await.success());
    let requests = server.requests();
    let told = requests[1].last();
    assert!(told.contains("index cannot be reached"), "{told}");
}

#[tokio::test]
async fn without_a_terminal_nothing_is_installed_and_the_model_is_told() {
    let answers = vec![
        short("import cowsay"),
        code("!pip install cowsay\nprint('installed')"),
        code("!pip install -r wishes.txt"),
        code("print('without')"),
        answer("Done without."),
    ];
    let server = ModelServer::start(answers).await;
    let world = project_with(server.url());
    let ended = world
        .run(&["ask", "--json", "--mode", "sandbox", "go"])
        .await;
    assert_code(&ended, 0);
    assert_eq!(ended.answer(), "Done without.");
    let requests = server.requests();
    let environment = requests[0].messages()[0].1;
    assert!(
        environment.contains("cannot be had in this session"),
        "{environment}"
    );
    for told in [requests[1].last(), requests[2].last()] {
        assert!(told.contains("cowsay was not installed"), "{told}");
        assert!(told.contains("nobody is at a terminal"), "{told}");
    }
    assert!(
        requests[3].last().contains("names of packages alone"),
        "{}",
        requests[3].last()
    );
    // Neither of the two cells with pip has run.
    assert_eq!(ended.of("executed").len(), 2, "{ended:?}");
    assert!(listed(&world).await.is_empty());
}

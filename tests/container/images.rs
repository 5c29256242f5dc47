//! Images: made, listed, used as they are, and refused with the command that makes a right one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::host::{BASE, Host, with_host};
use heddle::kernel::container::{self, Leftover, image};

/// Builds an image with Docker's own client, as a person would.
fn build(host: &Host, name: &str, containerfile: &str) {
    use std::io::Write;
    let mut child = std::process::Command::new("docker")
        .args(["build", "-q", "-t", name, "-"])
        .env("DOCKER_HOST", host.address())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(containerfile.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

fn run_in(host: &Host, image: &str, python: &str, code: &str) -> (i32, String) {
    let workspace = tempfile::tempdir().unwrap();
    let output = host
        .heddle(&["run", "--mode", "container", "-c", code])
        .current_dir(workspace.path())
        .env("HEDDLE_EXECUTION_SERVICE_CUSTOM_IMAGE", image)
        .env("HEDDLE_EXECUTION_SERVICE_IMAGE_PYTHON", python)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn the_final_image_has_nothing_of_the_installation() {
    with_host(async |host| {
        let look =
            "ls /build /opt/heddle/build 2>/dev/null; env; python3 -c 'import numpy, ipykernel'";
        let said = host.docker_says(&[
            "run",
            "--rm",
            "--network",
            "none",
            &image::own_name(),
            "sh",
            "-c",
            look,
        ]);
        assert!(!said.contains("ca.pem") && !said.contains("PIP_"), "{said}");
        let history = host.docker_says(&["history", "--no-trunc", &image::own_name()]);
        assert!(!history.contains("/build"), "{history}");
    });
}

#[test]
fn plots_have_a_font_for_chinese_and_nothing_to_complain_of() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let code =
            "import matplotlib.pyplot as plt; plt.title('收入'); plt.plot([1, 2]); plt.show()";
        let outcome = kernel.run(code).await;
        // Neither fonts that are missing nor caches that cannot be written are complained of.
        assert!(
            outcome.raised.is_none() && outcome.stderr.is_empty(),
            "{outcome:?}"
        );
        kernel.end().await;
    });
}

#[test]
fn images_are_listed_and_those_of_others_are_not_removed() {
    with_host(async |host| {
        let output = host.heddle(&["image", "list", "--json"]).output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(list["used"], image::own_name());
        let images = list["images"].as_array().unwrap();
        let own = images.iter().find(|image| image["used"] == true).unwrap();
        assert!(
            own["packages"]
                .as_array()
                .unwrap()
                .contains(&"pandas".into())
        );

        let output = host.heddle(&["image", "remove", BASE]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("docker image rm"),
            "{said}"
        );
        host.docker_says(&["image", "inspect", BASE]);

        host.docker_says(&["tag", &image::own_name(), "heddle-test-copy"]);
        let removed = host
            .heddle(&["image", "remove", "heddle-test-copy"])
            .status();
        assert!(removed.unwrap().success());
        assert!(
            !host
                .docker(&["image", "inspect", "heddle-test-copy"])
                .status
                .success()
        );
        host.docker_says(&["image", "inspect", &image::own_name()]);
    });
}

#[test]
fn a_custom_image_is_used_as_it_is_without_its_entrypoint() {
    with_host(async |host| {
        let containerfile = format!(
            "FROM {}\nRUN mv /opt/heddle /opt/own && ln -s /opt/own /opt/heddle\nENV PATH=/usr/bin:/bin\n\
             LABEL heddle.python=\nENTRYPOINT [\"/bin/false\"]\nUSER root\n",
            image::own_name()
        );
        build(host, "heddle-test-custom", &containerfile);
        let before = host.docker_says(&["image", "inspect", "-f", "{{.Id}}", "heddle-test-custom"]);
        let code = "import sys; print(sys.executable)";
        let (exit, said) = run_in(host, "heddle-test-custom", "", code);
        assert_eq!(
            (exit, said.trim()),
            (0, "/opt/heddle/bin/python3"),
            "{said}"
        );
        let (exit, said) = run_in(host, "heddle-test-custom", "/opt/own/bin/python", code);
        assert_eq!((exit, said.trim()), (0, "/opt/own/bin/python"), "{said}");
        let after = host.docker_says(&["image", "inspect", "-f", "{{.Id}}", "heddle-test-custom"]);
        assert_eq!(before, after);
    });
}

#[test]
fn an_image_that_will_not_do_says_what_makes_one_that_will() {
    with_host(async |host| {
        let (exit, said) = run_in(host, BASE, "", "1");
        assert!(
            exit == 3 && said.contains("no Python with ipykernel"),
            "{said}"
        );
        assert!(
            said.contains(&format!("heddle image build --base {BASE}")),
            "{said}"
        );

        let (_, said) = run_in(host, "none:1", "", "1");
        assert!(said.contains("heddle image build --tag none:1"), "{said}");
        assert!(!said.contains("image pull"), "{said}");
        let listed = host
            .heddle(&["image", "list"])
            .env("HEDDLE_EXECUTION_SERVICE_CUSTOM_IMAGE", "none:1")
            .output()
            .unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(
            listed.contains("heddle image build --tag none:1"),
            "{listed}"
        );

        let (exit, said) = run_in(host, "registry.invalid/none:1", "", "1");
        assert_eq!(exit, 3, "{said}");
        for part in [
            "heddle image build --tag registry.invalid/none:1",
            "heddle image pull registry.invalid/none:1",
            "--mode sandbox",
            "--mode local",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(
            !host
                .docker(&["image", "inspect", "registry.invalid/none:1"])
                .status
                .success()
        );
    });
}

/// Makes an image of these files, which are tarred.
fn import(host: &Host, name: &str, files: &[(&str, &[u8])]) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let archive = tempfile::NamedTempFile::new().unwrap();
    let tarred = std::process::Command::new("tar")
        .arg("-cf")
        .arg(archive.path())
        .arg("-C")
        .arg(folder.path())
        .arg(".")
        .status();
    assert!(tarred.unwrap().success());
    host.docker_says(&["import", &archive.path().to_string_lossy(), name]);
}

#[test]
fn what_an_engine_refuses_is_told_with_what_to_type_next() {
    with_host(async |host| {
        import(host, "heddle-test-no-shell", &[("hello", b"hello")]);
        // The header of a program for 64-bit ARM; which this machine is not, or for 64-bit x86 there.
        let mut foreign = std::fs::read("/proc/self/exe").unwrap()[..64].to_vec();
        let other: u16 = if cfg!(target_arch = "aarch64") {
            62
        } else {
            183
        };
        foreign[18..20].copy_from_slice(&other.to_le_bytes());
        import(host, "heddle-test-foreign", &[("bin/sh", &foreign)]);
        for (image, expected) in [
            (
                "heddle-test-no-shell",
                ["has no shell", "heddle image build"],
            ),
            (
                "heddle-test-foreign",
                ["another kind of processor", "docker pull --platform linux/"],
            ),
            (
                "Foo:Bar:baz",
                ["is no name of an image", "heddle image list"],
            ),
        ] {
            let (exit, said) = run_in(host, image, "", "1");
            assert_eq!(exit, 3, "{said}");
            for part in expected {
                assert!(said.contains(part), "{said}");
            }
        }
        for args in [
            ["image", "pull", "Foo:Bar:baz"].as_slice(),
            &["image", "remove", "Foo:Bar:baz"],
            &["image", "build", "--tag", "Foo:Bar:baz"],
        ] {
            let output = host.heddle(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.contains("no name of an image") && said.contains("docker images"),
                "{said}"
            );
        }
    });
}

#[test]
fn a_full_disk_of_the_engine_is_told_with_what_makes_room() {
    with_host(async |_| {
        // Beside the shared one, which others need.
        let mut full = Host::start_on_a_small_disk();
        import(&full, "heddle-test-small", &[("bin/sh", b"#!/bin/sh")]);
        full.fill_its_disk();
        let (exit, said) = run_in(&full, "heddle-test-small", "", "1");
        assert_eq!(exit, 3, "{said}");
        assert!(
            said.contains("is full") && said.contains("docker system df"),
            "{said}"
        );
        let output = build_with(&full, BASE, "heddle-test-none", "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("docker system df"), "{said}");
        full.stop();
    });
}

fn build_with(host: &Host, base: &str, name: &str, requirements: &str) -> std::process::Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), requirements).unwrap();
    host.heddle(&["image", "build", "--base", base, "--tag", name])
        .args(["--ca-file", "/etc/ssl/certs/ca-certificates.crt"])
        .arg("--requirements")
        .arg(file.path())
        .output()
        .unwrap()
}

/// Held by a test that builds with Heddle or looks for early stages: the end of a build removes those of all.
fn alone() -> MutexGuard<'static, ()> {
    static BUILDING: Mutex<()> = Mutex::new(());
    BUILDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Early stages of builds, by their ids.
fn stages_of(host: &Host) -> String {
    host.docker_says(&["images", "-q", "--filter", "label=heddle.stage=packages"])
}

#[test]
fn a_build_that_is_interrupted_leaves_no_early_stage() {
    let _alone = alone();
    with_host(async |host| {
        // An index that takes its time.
        let index = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/simple", index.local_addr().unwrap());
        let mut heddle = host
            .heddle(&["image", "build", "--base", BASE, "--tag", "heddle-test-cut"])
            .args(["--index-url", &url])
            .spawn()
            .unwrap();
        let _asked = index.accept().unwrap();
        assert_ne!(stages_of(host), "");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(heddle.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        assert_eq!(heddle.wait().unwrap().code(), Some(130));
        assert_eq!(stages_of(host), "");
    });
}

#[test]
fn an_early_stage_that_was_left_long_ago_is_a_leftover() {
    let _alone = alone();
    with_host(async |host| {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z",
            "config":{"Labels":{"heddle.stage":"packages"}},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#;
        let manifest = r#"[{"Config":"config.json","RepoTags":null,"Layers":[]}]"#;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("config.json"), config).unwrap();
        std::fs::write(path("manifest.json"), manifest).unwrap();
        let tarred = std::process::Command::new("tar")
            .args(["-cf", "image.tar", "config.json", "manifest.json"])
            .current_dir(folder.path())
            .status();
        assert!(tarred.unwrap().success());
        host.docker_says(&["load", "-i", &path("image.tar").to_string_lossy()]);
        let stage = stages_of(host);
        assert_ne!(stage, "");
        let engine = host.engine().await;
        let mut left = container::leftovers(Some(&engine)).await.unwrap();
        // Containers may be another test's.
        left.retain(|left| matches!(left, Leftover::Stage(_)));
        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
        assert!(
            names
                .iter()
                .any(|name| name.starts_with("image ") && name.contains(&stage)),
            "{names:?}"
        );
        container::remove_leftovers(Some(&engine), &left).await;
        assert_eq!(stages_of(host), "");
    });
}

#[test]
fn an_image_of_somebody_else_is_not_replaced() {
    let _alone = alone();
    with_host(async |host| {
        host.docker_says(&["tag", BASE, "heddle-test-taken"]);
        let id = || host.docker_says(&["image", "inspect", "-f", "{{.Id}}", "heddle-test-taken"]);
        let before = id();
        let output = build_with(host, BASE, "heddle-test-taken", "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in ["--tag", "docker rmi heddle-test-taken"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(before, id());
        host.docker_says(&["rmi", "heddle-test-taken"]);
    });
}

#[test]
fn a_build_shows_why_it_fails_and_leaves_nothing_but_the_image() {
    let _alone = alone();
    with_host(async |host| {
        let broken =
            "FROM heddle-test-base\nRUN rm /usr/bin/python3 && ln -s /bin/false /usr/bin/python3\n";
        build(host, "heddle-test-broken", broken);
        let output = build_with(host, "heddle-test-broken", "heddle-test-failed", "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let error = said.rsplit("error:").next().unwrap();
        assert!(
            error.contains("python3 -m venv") && error.contains("non-zero"),
            "{error}"
        );
        assert!(
            !host
                .docker(&["image", "inspect", "heddle-test-failed"])
                .status
                .success()
        );

        assert_eq!(stages_of(host), "");

        let output = build_with(host, "registry.invalid/none", "heddle-test-failed", "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("--base IMAGE") && said.contains("heddle image pull python:"),
            "{said}"
        );

        let output = build_with(host, BASE, "heddle-test-more", "humanize\n");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(stages_of(host), "");
        let code = "import humanize; print(humanize.intcomma(1000))";
        let (exit, said) = run_in(host, "heddle-test-more", "", code);
        assert_eq!((exit, said.trim()), (0, "1,000"), "{said}");
        let removed = host
            .heddle(&["image", "remove", "heddle-test-more"])
            .status();
        assert!(removed.unwrap().success());
    });
}

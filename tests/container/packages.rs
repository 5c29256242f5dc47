//! Packages for the Python of an image: installed outside of the kernels, from the real index.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};

use crate::host::{Host, with_host};

/// A project, and a data folder, of its own.
fn project() -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    std::fs::create_dir(project.path().join("desk")).unwrap();
    std::fs::write(project.path().join("desk/heddle.toml"), "").unwrap();
    project
}

fn heddle(host: &Host, project: &tempfile::TempDir, args: &[&str]) -> Command {
    let mut command = host.heddle(args);
    command.current_dir(project.path().join("desk"));
    command.env("XDG_DATA_HOME", project.path().join("data"));
    command
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn add(host: &Host, project: &tempfile::TempDir, name: &str) -> Output {
    let args = ["env", "add", "--mode", "container", name];
    heddle(host, project, &args).output().unwrap()
}

#[test]
fn a_running_kernel_imports_what_is_added_and_cannot_change_it() {
    with_host(async |host| {
        let project = project();
        let code = "
import importlib, sys, time
print('running', flush=True)
for _ in range(1200):
    try:
        import humanize
        break
    except ImportError: time.sleep(0.05); importlib.invalidate_caches()
print(humanize.intcomma(1000), humanize.__file__.startswith(sys.path[-1]))
try: open(humanize.__file__, 'a')
except OSError as error: print(error.strerror)";
        let mut running = heddle(host, &project, &["run", "--mode", "container", "-c", code])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        assert_eq!(line(), "running");
        let output = add(host, &project, "humanize==4.9.0");
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "humanize 4.9.0\n");
        assert_eq!([line(), line()], ["1,000 True", "Read-only file system"]);
        assert!(running.wait().unwrap().success());

        let only = |folder: std::path::PathBuf| {
            let mut entries = std::fs::read_dir(folder).unwrap();
            entries.next().unwrap().unwrap().path()
        };
        let tag = only(only(project.path().join("data/heddle/packages")));
        let lock = std::fs::read_to_string(tag.join("current/requirements.txt")).unwrap();
        assert!(lock.contains("humanize==4.9.0 --hash=sha256:"), "{lock}");
        let meta = std::fs::metadata(tag.join("current/site/humanize")).unwrap();
        assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());

        let args = ["env", "remove", "--mode", "container", "humanize"];
        let output = heddle(host, &project, &args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let args = ["run", "--mode", "container", "-c", "import humanize"];
        let output = heddle(host, &project, &args).output().unwrap();
        assert!(
            said(&output).contains("ModuleNotFoundError"),
            "{}",
            said(&output)
        );
    });
}

#[test]
fn what_is_compiled_is_for_the_python_of_the_image() {
    with_host(async |host| {
        let project = project();
        let output = add(host, &project, "markupsafe");
        assert!(output.status.success(), "{}", said(&output));
        let code = "import markupsafe._speedups as s, sys; print(f'{sys.version_info[0]}{sys.version_info[1]}' in s.__file__)";
        let args = ["run", "--mode", "container", "-c", code];
        let output = heddle(host, &project, &args).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "True\n",
            "{}",
            said(&output)
        );
        // What the image has is not there a second time.
        let output = add(host, &project, "numpy");
        assert!(
            said(&output).contains("numpy is there already"),
            "{}",
            said(&output)
        );
    });
}

#[test]
fn what_cannot_be_had_says_why_and_leaves_no_container() {
    with_host(async |host| {
        let project = project();
        for (name, index, reason) in [
            (
                "humanize",
                Some("http://127.0.0.1:9/simple"),
                "cannot be reached",
            ),
            (
                "heddle-there-is-no-such-package",
                None,
                "no package heddle-there-is-no-such-package",
            ),
            ("numpy<1", None, "go together"),
        ] {
            let mut command = heddle(host, &project, &["env", "add", "--mode", "container", name]);
            command.envs(index.map(|index| ("PIP_INDEX_URL", index)));
            let output = command.output().unwrap();
            let text = said(&output);
            assert!(!output.status.success() && text.contains(reason), "{text}");
        }
        let ids = host.docker_says(&["ps", "-aq", "--filter", "name=heddle-packages"]);
        let is_ours = |id: &&str| {
            // Those of other tests may go meanwhile.
            let output = host.docker(&["inspect", "-f", "{{json .Mounts}}", id]);
            String::from_utf8_lossy(&output.stdout).contains(&*project.path().to_string_lossy())
        };
        assert_eq!(ids.lines().find(is_ours), None);
    });
}

//! The choice of the mode, as a person meets it, and an ordinary user's kernels.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use heddle::kernel::container::{Container, Reach, image, is_beside_us};

use crate::host::{BASE, Host, heddle, with_host};

const USER: u32 = 12_345;
const GROUP: u32 = 12_346;

/// A home for an ordinary user that owns nothing else, and the heddle command where it may be executed.
struct Ordinary {
    home: tempfile::TempDir,
    heddle: PathBuf,
}

impl Ordinary {
    fn new() -> Ordinary {
        let home = tempfile::tempdir().unwrap();
        let command = home.path().join("heddle");
        std::fs::copy(heddle(), &command).unwrap();
        std::os::unix::fs::chown(home.path(), Some(USER), Some(USER)).unwrap();
        Ordinary {
            heddle: command,
            home,
        }
    }

    fn workspace(&self) -> PathBuf {
        let workspace = self.home.path().join("project");
        std::fs::create_dir_all(&workspace).unwrap();
        std::os::unix::fs::chown(&workspace, Some(USER), Some(USER)).unwrap();
        workspace
    }

    /// Runs code as that user, who is in these groups.
    fn run(&self, host: &Host, groups: &[u32], code: &str) -> Output {
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &USER.to_string(), "--regid", &USER.to_string()]);
        match groups.is_empty() {
            true => command.arg("--clear-groups"),
            false => command.args(["--groups", &groups.join(",")]),
        };
        command
            .arg(&self.heddle)
            .args(["run", "--mode", "container", "-c", code])
            .current_dir(self.workspace())
            .env("HOME", self.home.path())
            .env_remove("XDG_RUNTIME_DIR")
            .env("DOCKER_HOST", host.address())
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn an_ordinary_user_of_the_engines_group_has_kernels_of_its_own() {
    with_host(async |host| {
        std::os::unix::fs::chown(&host.socket, None, Some(GROUP)).unwrap();
        std::fs::set_permissions(&host.socket, PermissionsExt::from_mode(0o660)).unwrap();
        let user = Ordinary::new();

        let output = user.run(host, &[], "1");
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(
            text.contains("you may not use it") && text.contains("--mode sandbox"),
            "{text}"
        );

        let code = "
import multiprocessing, os
with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, [-1, 2])), os.getuid())
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.savefig('plot.png')
print(int(dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)['CapBnd'], 16))";
        let output = user.run(host, &[GROUP], code);
        assert_eq!(
            said(&output).lines().collect::<Vec<_>>()[..2],
            ["3 12345", "0"],
            "{}",
            said(&output)
        );
        let meta = std::fs::metadata(user.workspace().join("plot.png")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (USER, USER));
        assert!(host.containers_of(&user.workspace()).is_empty());

        // Who fills the folder of the sockets, which is the user's own here, is ended.
        let code = "open('/run/heddle/x', 'wb').write(bytes(2 << 20))\nimport time; time.sleep(60)";
        let text = said(&user.run(host, &[GROUP], code));
        assert!(text.contains("filled the folder of its sockets"), "{text}");
    });
}

/// Asks a model whose reply is recorded, in the mode that is found; gives what is said.
fn ask(docker_host: &str, mode: &str) -> Output {
    let project = tempfile::tempdir().unwrap();
    Command::new(heddle())
        .args(["demo", "--json"])
        .current_dir(project.path())
        .env("HEDDLE_EXECUTION_SERVICE_KERNEL_MODE", mode)
        .env("HEDDLE_WORKSPACE_WORKSPACE_PATH", project.path())
        .env("DOCKER_HOST", docker_host)
        .output()
        .unwrap()
}

#[test]
fn container_mode_by_name_never_falls_back() {
    with_host(async |host| {
        let output = ask("unix:///none.sock", "container");
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        for part in [
            "/none.sock",
            "unset DOCKER_HOST",
            "--mode sandbox",
            "--mode local",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let output = ask(&host.address(), "container");
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains(r#""mode":"container""#),
            "{}",
            said(&output)
        );
    });
}

/// The first that is needed for code of a model, without asking one: the line about the mode comes before.
fn announced(docker_host: &str, project: &Path) -> String {
    let replies = project.join("replies.jsonl");
    std::fs::write(&replies, "").unwrap();
    let output = Command::new(heddle())
        .args(["ask", "hello", "--model", "m", "--replay"])
        .arg(&replies)
        .current_dir(project)
        .env("HEDDLE_WORKSPACE_WORKSPACE_PATH", project)
        .env("DOCKER_HOST", docker_host)
        .output()
        .unwrap();
    said(&output)
}

#[test]
fn the_mode_that_is_found_is_said_in_a_line() {
    with_host(async |host| {
        let project = tempfile::tempdir().unwrap();
        let text = announced(&host.address(), project.path());
        assert!(
            text.contains("Code runs in container mode, because Docker "),
            "{text}"
        );
        let text = announced("tcp://build.invalid:2375", project.path());
        assert!(
            text.contains("Code runs in sandbox mode") && text.contains("reached over a network"),
            "{text}"
        );
    });
}

/// A container of this engine, tried as for an engine in a virtual machine.
async fn reaches_here(host: &Host) -> Result<Reach, String> {
    let engine = host.engine().await;
    let image = image::find(&engine, BASE).await.unwrap().unwrap();
    let container = Container::with(engine, image, Some("python3".into()), heddle());
    container.reaches_here().await
}

#[test]
fn an_engine_that_does_not_see_this_machine_is_found_out() {
    with_host(async |host| {
        assert!(is_beside_us(&host.socket).await);
        assert_eq!(reaches_here(host).await, Ok(Reach::Sockets));
        let mut apart = Host::start_apart();
        assert!(!is_beside_us(&apart.socket).await);
        let reason = reaches_here(&apart).await.unwrap_err();
        assert!(reason.contains("does not see the files"), "{reason}");
        apart.stop();
    });
}

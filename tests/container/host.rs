//! The engine that the tests share, and kernels in it.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use heddle::kernel::Launcher;
use heddle::kernel::container::{Container, Engine, Reach, Surroundings, engine, image};

use crate::place::{Mode, Place};

/// The image that the engine's script makes.
pub const BASE: &str = "heddle-test-base";

/// How long the engine may take to answer while other tests have it make images.
const PATIENCE: Duration = Duration::from_secs(30);

/// Read by tests that need a running engine, written by those that stop it.
static HOST: RwLock<Option<Host>> = RwLock::new(None);

/// A running engine of our own, with the kernel's image in it.
pub struct Host {
    /// What runs it, unless it was there before.
    script: Option<Child>,
    pub socket: PathBuf,
}

impl Host {
    /// `HEDDLE_TEST_ENGINE`, the socket of another engine that has the image of the tests' base, has the tests run on
    /// that: on Podman, say.
    fn start() -> Host {
        if let Some(socket) = std::env::var_os("HEDDLE_TEST_ENGINE") {
            let host = Host {
                script: None,
                socket: socket.into(),
            };
            host.make_image();
            return host;
        }
        let script = Command::new("tests/support/engine.sh");
        let host = Host::with_script(script, &folder("engine"));
        host.make_image();
        host
    }

    /// An engine with nothing but the base image, which has not the `/dev/shm` of this machine.
    pub fn start_apart() -> Host {
        Host::start_beside(
            "engine-apart",
            "--mount",
            "mount -t tmpfs none /dev/shm && exec tests/support/engine.sh \"$0\"",
        )
    }

    /// An engine with nothing but the base image, and with a network: its bridge has this address, in a network of
    /// the engine's own.
    pub fn start_with_network(address: &str) -> Host {
        Host::start_beside(
            "engine-network",
            "--net",
            &format!("exec tests/support/engine.sh \"$0\" --bip={address}/24"),
        )
    }

    /// An engine with nothing but the base image, whose disk has little room beside it.
    pub fn start_on_a_small_disk() -> Host {
        Host::start_beside(
            "engine-small",
            "--mount",
            "mkdir -p \"$0/data\" && mount -t tmpfs -o size=600m none \"$0/data\" && exec tests/support/engine.sh \"$0\"",
        )
    }

    /// Leaves no byte on that disk.
    pub fn fill_its_disk(&self) {
        let script = self.script.as_ref().unwrap().id().to_string();
        let file = folder("engine-small").join("data/ballast");
        let filled = Command::new("nsenter")
            .args([
                "-t",
                &script,
                "-m",
                "dd",
                "if=/dev/zero",
                "bs=64k",
                "status=none",
            ])
            .arg(format!("of={}", file.display()))
            .stderr(Stdio::null())
            .status();
        // It ends because there is no room.
        assert!(!filled.unwrap().success());
    }

    /// The process of the engine itself.
    pub fn pid(&self) -> nix::unistd::Pid {
        let pid = std::fs::read_to_string(self.socket.with_file_name("pid")).unwrap();
        nix::unistd::Pid::from_raw(pid.trim().parse().unwrap())
    }

    /// Runs a program where that engine is, as far as its network goes.
    pub fn beside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let engine = self.script.as_ref().unwrap().id().to_string();
        command.args(["-t", &engine, "-n", program]);
        command
    }

    fn start_beside(name: &str, without: &str, shell: &str) -> Host {
        let folder = folder(name);
        std::fs::create_dir_all(&folder).unwrap();
        let base = self::folder("engine").join("base.tar");
        // Else it is linked already.
        let _ = std::fs::hard_link(base, folder.join("base.tar"));
        let mut script = Command::new("unshare");
        script.args([without, "sh", "-c", shell]);
        Host::with_script(script, &folder)
    }

    fn with_script(mut script: Command, folder: &Path) -> Host {
        let mut script = script
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = script.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let socket = line.strip_prefix("ready ").expect("the engine starts");
        Host {
            socket: socket.trim().into(),
            script: Some(script),
        }
    }

    /// Makes the kernel's image as a person would, unless it was made for these very sources before.
    fn make_image(&self) {
        let has = self.docker(&["image", "inspect", &image::own_name()]);
        if has.status.success() {
            return;
        }
        let built = self
            .heddle(&["image", "build", "--base", BASE])
            .args(["--ca-file", "/etc/ssl/certs/ca-certificates.crt"])
            .status();
        assert!(built.unwrap().success(), "the image is made");
    }

    /// Stops the engine, as its service manager does.
    pub fn stop(&mut self) {
        if let Some(script) = &mut self.script {
            drop(script.stdin.take());
            script.wait().unwrap();
        }
    }

    /// The heddle command, with this engine.
    pub fn heddle(&self, args: &[&str]) -> Command {
        let mut command = Command::new(heddle());
        command.args(args).env("DOCKER_HOST", self.address());
        command
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn docker(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.address());
        command.output().unwrap()
    }

    /// What docker prints, which must not fail.
    pub fn docker_says(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub async fn engine(&self) -> Engine {
        let surroundings = Surroundings {
            docker_host: Some(self.address()),
            ..Surroundings::default()
        };
        engine::find(&surroundings, PATIENCE).await.unwrap()
    }

    /// A place for kernels from an image.
    pub async fn place(&self, image: &str) -> Place {
        self.place_reached_by(Reach::Sockets, image).await
    }

    pub async fn place_reached_by(&self, reach: Reach, image: &str) -> Place {
        let engine = self.engine().await;
        let image = image::find(&engine, image).await.unwrap().unwrap();
        let launcher = Container::with(engine, image, None, heddle()).reached_by(reach);
        let choice = launcher.choice().unwrap();
        let workspace = tempfile::tempdir().unwrap();
        let mut place = Place::new(
            Mode::Container(reach),
            Arc::new(launcher),
            choice,
            heddle(),
            workspace,
        );
        place.surroundings.push(("DOCKER_HOST", self.address()));
        if reach == Reach::Streams {
            place
                .surroundings
                .push(("HEDDLE_CONTAINER_SOCKETS", "apart".into()));
        }
        place
    }

    /// Which containers are there, running or not, of those that work in a folder.
    pub fn containers_of(&self, workspace: &Path) -> Vec<String> {
        let ids = self.docker_says(&["ps", "-aq", "--no-trunc"]);
        let works_here = |id: &&str| {
            let output = self.docker(&["inspect", "-f", "{{.Config.WorkingDir}}", id]);
            String::from_utf8_lossy(&output.stdout).trim() == workspace.to_string_lossy()
        };
        ids.lines().filter(works_here).map(str::to_owned).collect()
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

pub fn heddle() -> PathBuf {
    env!("CARGO_BIN_EXE_heddle").into()
}

/// Why no engine can be started here, if so.
fn missing() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("starting an engine needs root".into());
    }
    let on_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
    };
    ["dockerd", "docker", "mmdebstrap"]
        .into_iter()
        .find(|name| !on_path(name))
        .map(|name| {
            format!(
                "{name} is not installed: apt-get install -y --no-install-recommends docker.io mmdebstrap"
            )
        })
}

/// Whether the tests can be run; else it is said why. `HEDDLE_REQUIRE_ENGINE=1` does not let them be skipped.
fn can_run() -> bool {
    let Some(reason) = missing() else { return true };
    let required = std::env::var_os("HEDDLE_REQUIRE_ENGINE").is_some();
    assert!(!required, "{reason}");
    eprintln!("skipped: {reason}");
    false
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future);
}

/// Runs a test with the engine, which others use at the same time.
pub fn with_host(test: impl AsyncFnOnce(&Host)) {
    while can_run() {
        if let Some(host) = &*HOST.read().unwrap_or_else(PoisonError::into_inner) {
            return block_on(test(host));
        }
        let mut host = HOST.write().unwrap_or_else(PoisonError::into_inner);
        host.get_or_insert_with(Host::start);
    }
}

/// Runs a test with the engine to itself, which it may stop.
pub fn with_host_alone(test: impl AsyncFnOnce(Host)) {
    if can_run() {
        let mut host = HOST.write().unwrap_or_else(PoisonError::into_inner);
        let own = host.take().unwrap_or_else(Host::start);
        block_on(test(own));
    }
}

/// Runs a test in a container, where its kernels do what they do elsewhere; also where no socket crosses its border.
pub fn everywhere<T: Future<Output = ()>>(body: impl Fn(Place) -> T) {
    with_host(async |host| {
        for reach in [Reach::Sockets, Reach::Streams] {
            eprintln!("-- {reach:?}");
            body(host.place_reached_by(reach, &image::own_name()).await).await;
        }
    });
}

/// Waits until something holds.
pub fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < patience, "it never came to hold");
        std::thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
}

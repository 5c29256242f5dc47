//! What isolation costs: `cargo bench --bench isolation`. From a kernel's start until it is ready, in each mode, and the
//! memory of Heddle itself beside five sandboxed sessions.
//!
//! The modes take turns. Containers need an engine with the kernel's image in it: the one that answers, else the one of
//! the tests. Nothing is asserted: the figures are printed with their targets.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not measured: the sandbox needs Linux");
}

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, BufRead, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use heddle::isolation::level::Level;
    use heddle::kernel::container::{Container, Surroundings, engine, image};
    use heddle::kernel::{Choice, Grants, Kernel, Launcher, Local, Options, Sandboxed, python};
    use heddle::protocol::Transport;

    const HEDDLE: &str = env!("CARGO_BIN_EXE_heddle");
    const ROUNDS: usize = 15;
    const SESSIONS: usize = 5;
    /// Bytes that Heddle itself may take beside so many sessions.
    const MEMORY: u64 = 30 << 20;

    struct Contender {
        name: &'static str,
        launcher: Arc<dyn Launcher>,
        choice: Choice,
        /// Times of the first contender that this one may take.
        target: f64,
        times: Vec<Duration>,
    }

    pub fn main() -> io::Result<()> {
        let python = python::managed_or_make(
            &heddle::kernel::python::Precautions {
                isolated: false,
                ..heddle::kernel::python::Precautions::default()
            },
            &mut |progress| eprintln!("{progress}"),
        )
        .map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let choice = Choice::Python(python);
        let contender = |name, launcher: Arc<dyn Launcher>, choice: &Choice, target| Contender {
            name,
            launcher,
            choice: choice.clone(),
            target,
            times: Vec::new(),
        };
        let supervisor = || HEDDLE.into();
        let local = Local {
            supervisor: supervisor(),
        };
        let mut contenders = vec![contender("local", Arc::new(local), &choice, 1.0)];
        match Sandboxed::with(supervisor(), Level::cap()) {
            Ok(sandbox) => {
                println!("sandbox: {}", sandbox.level().name());
                contenders.push(contender("sandbox", Arc::new(sandbox), &choice, 1.3));
            }
            Err(reason) => println!("sandbox: skipped, because {reason}"),
        }
        let own = TestEngine::start();
        match runtime.block_on(container(own.as_ref())) {
            Ok(container) => match container.choice() {
                Some(choice) => {
                    contenders.push(contender("container", Arc::new(container), &choice, 1.7))
                }
                None => println!("container: skipped, because it has no kernel"),
            },
            Err(reason) => println!("container: skipped, because {reason}"),
        }
        let folder = tempfile::tempdir()?;
        // The first round warms what is cached.
        for round in 0..=ROUNDS {
            for contender in &mut contenders {
                let time = runtime.block_on(start(contender, folder.path()))?;
                if round > 0 {
                    contender.times.push(time);
                }
            }
        }
        print_times(&mut contenders);
        print_memory(folder.path())
    }

    /// From the start of a kernel until it is ready; ended afterwards.
    async fn start(contender: &Contender, cwd: &Path) -> io::Result<Duration> {
        let options = Options {
            launcher: contender.launcher.clone(),
            choice: contender.choice.clone(),
            transport: Transport::Ipc,
            cwd: cwd.to_path_buf(),
            env: Vec::new(),
            start_timeout: Duration::from_secs(60),
            grants: Grants {
                memory: 1 << 30,
                ..Grants::default()
            },
            tap: None,
        };
        let started = Instant::now();
        let kernel = Kernel::start(options).await.map_err(io::Error::other)?;
        let time = started.elapsed();
        kernel.shutdown().await;
        Ok(time)
    }

    fn print_times(contenders: &mut [Contender]) {
        println!("start to ready, medians of {ROUNDS}");
        let mut local = None;
        for contender in contenders {
            contender.times.sort();
            let median = contender.times[ROUNDS / 2].as_secs_f64();
            let ratio = median / *local.get_or_insert(median);
            let target = contender.target;
            let verdict = if ratio <= target { "met" } else { "NOT MET" };
            println!(
                "  {:<10} {:>4.0} ms  {ratio:.2} x local  target <= {target} x: {verdict}",
                contender.name,
                median * 1e3
            );
        }
    }

    /// The container mode of an engine that is here, without making or pulling anything.
    async fn container(own: Option<&TestEngine>) -> Result<Container, String> {
        let mut surroundings = Surroundings::of_process();
        if let Some(own) = own {
            surroundings.docker_host = Some(own.address.clone());
        }
        let engine = engine::find(&surroundings, engine::PATIENT)
            .await
            .map_err(|problem| problem.to_string())?;
        let image = image::find(&engine, &image::own_name())
            .await
            .map_err(|error| error.to_string())?
            .ok_or("the kernel's image is not made: heddle image build")?;
        Ok(Container::with(engine, image, None, HEDDLE.into()))
    }

    /// The engine of the container tests, which keep its images below `target/`.
    struct TestEngine {
        script: Child,
        address: String,
    }

    impl TestEngine {
        fn start() -> Option<TestEngine> {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine");
            if !folder.join("base.tar").exists() || std::env::var_os("DOCKER_HOST").is_some() {
                return None;
            }
            let mut script = Command::new("tests/support/engine.sh")
                .arg(folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let mut line = String::new();
            let output = script.stdout.take()?;
            // An engine that does not start says nothing, and ends.
            let _ = BufReader::new(output).read_line(&mut line);
            let socket = line.trim().strip_prefix("ready ").map(str::to_owned);
            let own = TestEngine {
                address: format!("unix://{}", socket.as_deref().unwrap_or_default()),
                script,
            };
            socket.map(|_| own)
        }
    }

    impl Drop for TestEngine {
        fn drop(&mut self) {
            // Its script stops the engine once there is nobody at its input.
            drop(self.script.stdin.take());
            let _ = self.script.wait();
        }
    }

    /// Sandboxed sessions that wait, each in a heddle of its own.
    struct Sessions(Vec<Child>);

    impl Drop for Sessions {
        fn drop(&mut self) {
            for child in &mut self.0 {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    fn print_memory(folder: &Path) -> io::Result<()> {
        let mut sessions = Sessions(Vec::new());
        for _ in 0..SESSIONS {
            let code = "print('running', flush=True)\nimport time; time.sleep(600)";
            let child = Command::new(HEDDLE)
                .args(["run", "--mode", "sandbox", "-c", code])
                .current_dir(folder)
                .env("XDG_CONFIG_HOME", folder)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            sessions.0.push(child);
        }
        for child in &mut sessions.0 {
            let mut line = String::new();
            if let Some(output) = child.stdout.take() {
                BufReader::new(output).read_line(&mut line)?;
            }
            if line.trim() != "running" {
                println!("memory: skipped, because a sandboxed session does not start");
                return Ok(());
            }
        }
        let heddles: Vec<u32> = sessions.0.iter().map(Child::id).collect();
        let supervisors = supervisors(&heddles);
        let sum = |processes: &[u32]| processes.iter().copied().map(proportional).sum::<u64>();
        let (own, theirs) = (sum(&heddles), sum(&supervisors));
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!("memory with {SESSIONS} sandboxed sessions, each in a heddle of its own (PSS)");
        println!(
            "  heddle     {:>5.1} MB in {} processes",
            megabytes(own),
            heddles.len()
        );
        println!(
            "  supervisor {:>5.1} MB in {} processes",
            megabytes(theirs),
            supervisors.len()
        );
        let verdict = if own + theirs <= MEMORY {
            "met"
        } else {
            "NOT MET"
        };
        println!(
            "  together   {:>5.1} MB  target <= {} MB: {verdict}",
            megabytes(own + theirs),
            MEMORY >> 20
        );
        Ok(())
    }

    /// Supervisors below these processes, on both sides of their namespaces.
    fn supervisors(heddles: &[u32]) -> Vec<u32> {
        let mut found = Vec::new();
        let mut parents = heddles.to_vec();
        while let Some(parent) = parents.pop() {
            for task in std::fs::read_dir(format!("/proc/{parent}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let children =
                    std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                for child in children
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                {
                    let command =
                        std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                    if command.split(|byte| *byte == 0).nth(1) == Some(b"supervise") {
                        found.push(child);
                        parents.push(child);
                    }
                }
            }
        }
        found
    }

    /// Bytes of one process; what it shares with others is divided among them.
    fn proportional(process: u32) -> u64 {
        let text =
            std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes =
            line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

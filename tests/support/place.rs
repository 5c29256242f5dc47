//! A place for kernels: their mode, their workspace and what they may use; and a running kernel.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use heddle::event::Event;
use heddle::executor::{Executor, Input, Interrupts, Limits, NoInput, Outcome, Places, interrupts};
use heddle::isolation::level::Level;
use heddle::kernel::container::Reach;
use heddle::kernel::{Choice, Grants, KernelError, Launcher, Options};
use heddle::protocol::Transport;

/// How kernels are kept apart from what is around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Local,
    Sandbox(Level),
    Container(Reach),
}

/// A workspace, and how kernels are started in it.
pub struct Place {
    pub mode: Mode,
    pub launcher: Arc<dyn Launcher>,
    pub choice: Choice,
    /// The heddle binary, and variables by which its command line comes to the same place.
    pub heddle: PathBuf,
    pub surroundings: Vec<(&'static str, String)>,
    pub workspace: tempfile::TempDir,
    pub grants: Grants,
    /// Seconds that a cell may take.
    pub timeout: u64,
    pub start_timeout: Duration,
}

impl Place {
    pub fn new(
        mode: Mode,
        launcher: Arc<dyn Launcher>,
        choice: Choice,
        heddle: PathBuf,
        workspace: tempfile::TempDir,
    ) -> Place {
        Place {
            mode,
            launcher,
            choice,
            heddle,
            surroundings: Vec::new(),
            workspace,
            grants: Grants {
                memory: 1 << 30,
                processes: 128,
                ..Grants::default()
            },
            timeout: 120,
            start_timeout: Duration::from_secs(120),
        }
    }

    /// The heddle command with arguments, to run code in this place's mode.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.heddle);
        command.args(args).current_dir(self.workspace.path());
        command.envs(self.surroundings.iter().cloned());
        command.env("HEDDLE_EXECUTION_SERVICE_KERNEL_MODE", self.mode_name());
        command
    }

    fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Local => "local",
            Mode::Sandbox(_) => "sandbox",
            Mode::Container(_) => "container",
        }
    }

    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    pub async fn try_start(&self) -> Result<Running, KernelError> {
        let options = Options {
            launcher: self.launcher.clone(),
            choice: self.choice.clone(),
            transport: Transport::Ipc,
            cwd: self.workspace.path().to_path_buf(),
            env: vec![("GIVEN".into(), "by name".into())],
            start_timeout: self.start_timeout,
            grants: self.grants.clone(),
            tap: None,
        };
        let limits = Limits {
            timeout: Some(Duration::from_secs(self.timeout)),
            characters: 1 << 20,
        };
        let places = Places {
            artifacts: Some(self.workspace.path().join("artifacts")),
            texts: None,
            watch: true,
        };
        let executor = Executor::start(options, places, limits).await?;
        Ok(Running {
            executor,
            events: Vec::new(),
        })
    }
}

/// A kernel with what it has shown.
pub struct Running {
    pub executor: Executor,
    pub events: Vec<Event>,
}

impl Running {
    /// Runs a cell to its end, whatever that is.
    pub async fn run(&mut self, code: &str) -> Outcome {
        self.run_with(code, &mut NoInput, &mut interrupts().1).await
    }

    pub async fn run_with(
        &mut self,
        code: &str,
        input: &mut dyn Input,
        interrupts: &mut Interrupts,
    ) -> Outcome {
        let events = &mut self.events;
        let mut sink = |event| events.push(event);
        self.executor
            .run(code, &mut sink, input, interrupts)
            .await
            .unwrap()
    }

    /// What a cell printed, which must not fail.
    pub async fn printed(&mut self, code: &str) -> String {
        let outcome = self.run(code).await;
        let (raised, died) = (outcome.raised, outcome.died);
        assert!(
            raised.is_none() && died.is_none(),
            "{code}\n{raised:?} {died:?}"
        );
        outcome.stdout.trim().to_owned()
    }

    /// Runs a cell, and does something each time that it has printed.
    pub async fn meanwhile(&mut self, code: &str, mut act: impl FnMut(&str) + Send) -> Outcome {
        let (_interrupter, mut interrupts) = interrupts();
        let mut sink = |event| {
            if let Event::Stream { text, .. } = event {
                act(&text);
            }
        };
        self.executor
            .run(code, &mut sink, &mut NoInput, &mut interrupts)
            .await
            .unwrap()
    }

    /// Runs a cell, and interrupts it once it has printed something.
    pub async fn interrupted(&mut self, code: &str) -> Outcome {
        let (interrupter, mut interrupts) = interrupts();
        let mut sink = |event| {
            if let Event::Stream { .. } = event {
                interrupter.press();
            }
        };
        self.executor
            .run(code, &mut sink, &mut NoInput, &mut interrupts)
            .await
            .unwrap()
    }

    pub async fn end(self) {
        self.executor.shutdown().await;
    }
}

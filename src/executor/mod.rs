//! Code in, a stream of events and an outcome out.

pub mod artifacts;
mod cell;
pub mod clip;
mod input;
mod interrupts;
mod outcome;
pub mod runtime;

pub use input::{Input, NoInput};
pub use interrupts::{Interrupter, Interrupts, interrupts};
pub use outcome::{Outcome, Raised};
pub use runtime::Variable;

use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Event, KernelState, Level, Sink};
use crate::kernel::packages::Packages;
use crate::kernel::{Kernel, KernelError, Options};
use crate::protocol::Header;
use artifacts::Snapshot;

/// Where things go; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Pictures and other rich outputs are saved here; `None`: they are only shown.
    pub artifacts: Option<PathBuf>,
    /// Texts too long for a model are kept here as a whole.
    pub texts: Option<PathBuf>,
    /// Whether files that code writes into the kernel's working directory are reported as artifacts.
    pub watch: bool,
}

/// What a cell may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest run; then the cell is interrupted. `None`: as long as it likes.
    pub timeout: Option<Duration>,
    /// Characters of each text of an [`Outcome`].
    pub characters: usize,
}

/// A kernel with what belongs to running cells in it.
pub struct Executor {
    kernel: Kernel,
    places: Places,
    /// Where rich outputs go, held since before the first cell.
    artifacts: Option<artifacts::Folder>,
    limits: Limits,
    /// The files of the workspace after the last cell.
    files: Snapshot,
    cells: u64,
    death: Death,
    packages: Option<Packages>,
    /// The request of another client's that cells are run for.
    acts_for: Option<Header>,
}

/// Who knows that the kernel has died.
#[derive(Default)]
enum Death {
    /// Nobody yet, or it lives.
    #[default]
    Untold,
    /// Its last cell said so.
    Told,
    /// The next outcome is to say it: how it ended.
    Due(String),
}

impl Executor {
    /// Starts the kernel. What becomes of earlier variables is the caller's to say.
    pub async fn start(
        options: Options,
        places: Places,
        limits: Limits,
    ) -> Result<Executor, KernelError> {
        // Before any code could put something else in its place.
        let artifacts = places.artifacts.as_deref().map(artifacts::Folder::settle);
        let kernel = Kernel::start(options).await?;
        Ok(Executor::around(kernel, artifacts, places, limits))
    }

    /// Runs cells in a kernel that is there already. A joined one is left as it is: nothing is mended in it.
    pub fn over(kernel: Kernel, places: Places, limits: Limits) -> Executor {
        let artifacts = places.artifacts.as_deref().map(artifacts::Folder::settle);
        Executor::around(kernel, artifacts, places, limits)
    }

    fn around(
        kernel: Kernel,
        artifacts: Option<artifacts::Folder>,
        places: Places,
        limits: Limits,
    ) -> Executor {
        let mut executor = Executor {
            files: Snapshot::default(),
            kernel,
            artifacts,
            places,
            limits,
            cells: 0,
            death: Death::default(),
            packages: None,
            acts_for: None,
        };
        executor.prepare();
        executor.files = executor.look();
        executor
    }

    /// Lets the kernel, and those that replace it, import packages of the project. An isolated kernel must have been
    /// started with their [`mount`](Packages::mount).
    pub fn with_packages(mut self, packages: Option<Packages>) -> Executor {
        self.packages = packages;
        self.show_packages();
        self
    }

    /// From now on, cells are run as a part of another client's request: what they put out is that one's.
    pub fn act_for(&mut self, request: Option<Header>) {
        self.acts_for = request;
    }

    /// The project's packages, where this kernel can have some.
    pub fn packages(&self) -> Option<&Packages> {
        self.packages.as_ref()
    }

    /// Lets the running kernel see what has been added by now.
    pub fn show_packages(&self) {
        if let Some(packages) = &self.packages {
            runtime::use_packages(self.kernel.client(), &packages.site());
        }
    }

    /// Runs a cell: events to `sink` as they come, then the outcome. An error means that no kernel could run it; a
    /// kernel that dies while running it is an outcome.
    pub async fn run(
        &mut self,
        code: &str,
        sink: &mut dyn Sink,
        input: &mut dyn Input,
        interrupts: &mut Interrupts,
    ) -> Result<Outcome, KernelError> {
        self.revive()
            .await?
            .into_iter()
            .for_each(|event| sink.emit(event));
        self.cells += 1;
        let mut outcome = cell::run(self, code, sink, input, interrupts).await;
        if let Death::Due(reason) = std::mem::take(&mut self.death) {
            outcome.lost = Some(reason);
        }
        if self.places.watch
            && let Some(now) = self.look_again(interrupts).await
        {
            let saved = outcome.artifacts.clone();
            let written = now.since(&self.files).into_iter();
            for artifact in written.filter(|artifact| !saved.contains(artifact)) {
                sink.emit(Event::Artifact {
                    path: artifact.path.to_string_lossy().into_owned(),
                    mime: artifact.mime.clone(),
                });
                outcome.artifacts.push(artifact);
            }
            if now.is_cut() && !self.files.is_cut() {
                sink.emit(Event::Notice {
                    level: Level::Info,
                    message: "the working directory holds more than is looked through, so not every file that code \
                              writes is named here"
                        .into(),
                });
            }
            self.files = now;
        }
        for message in self.changed_files() {
            let level = Level::Warning;
            sink.emit(Event::Notice { level, message });
        }
        if let Some(reason) = &outcome.died {
            self.death = Death::Told;
            sink.emit(lost(reason));
        }
        sink.emit(Event::Executed {
            status: outcome.status,
            execution_count: outcome.execution_count,
            seconds: outcome.seconds,
        });
        Ok(outcome)
    }

    /// The user's variables; none where the kernel is dead or not a Python.
    pub async fn variables(&self) -> Vec<Variable> {
        self.visit();
        runtime::variables(self.kernel.client())
            .await
            .unwrap_or_default()
    }

    /// The files of the workspace, relative to it, with their sizes in bytes. Where a joined kernel works, only it knows.
    pub async fn files(&self) -> Vec<(String, u64)> {
        if !self.kernel.is_ours() {
            self.visit();
            return runtime::files(self.kernel.client())
                .await
                .unwrap_or_default();
        }
        let cwd = self.kernel.cwd();
        let relative = |path: &std::path::Path| {
            let path = path.strip_prefix(cwd).unwrap_or(path);
            path.to_string_lossy().into_owned()
        };
        Snapshot::take(cwd)
            .files()
            .into_iter()
            .map(|(path, size)| (relative(path), size))
            .collect()
    }

    /// From now on, things go elsewhere, and cells may take something else.
    pub fn settle(&mut self, places: Places, limits: Limits) {
        (self.places, self.limits) = (places, limits);
        self.files = self.look();
    }

    /// What of the files that other programs execute has changed, and was not told of yet: a text for each. Blocking.
    pub fn changed_files(&mut self) -> Vec<String> {
        self.kernel.changed_files()
    }

    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Starts the kernel anew; its variables are lost.
    pub async fn restart(&mut self) -> Result<(), KernelError> {
        self.kernel.restart().await?;
        self.death = Death::default();
        self.prepare();
        Ok(())
    }

    /// Ends the kernel and waits until all of it is gone. Gives what a person should know of what code has left.
    pub async fn shutdown(self) -> Vec<String> {
        self.kernel.shutdown().await
    }

    /// Replaces a kernel that has died, or says for a joined one that it is gone. One that died while no cell ran is told of by the event, and by the next
    /// outcome.
    pub async fn revive(&mut self) -> Result<Option<Event>, KernelError> {
        let Some(reason) = self.kernel.died() else {
            return Ok(None);
        };
        let told = matches!(self.death, Death::Told);
        self.restart().await?;
        if told {
            return Ok(None);
        }
        let event = lost(&reason);
        self.death = Death::Due(reason);
        Ok(Some(event))
    }

    /// Lets a joined kernel answer the calls that follow: nothing was sent before.
    fn visit(&self) {
        if !self.kernel.is_ours() && self.is_python() {
            runtime::visit(self.kernel.client());
        }
    }

    fn is_python(&self) -> bool {
        self.kernel.language().eq_ignore_ascii_case("python")
    }

    fn prepare(&self) {
        if self.kernel.is_ours() && self.is_python() {
            runtime::install(self.kernel.client());
            self.show_packages();
        }
    }

    /// The files as they are by now; `None` where a person would not wait for that, as on a file system that hangs.
    async fn look_again(&self, interrupts: &mut Interrupts) -> Option<Snapshot> {
        let cwd = self.kernel.cwd().to_owned();
        let look = tokio::task::spawn_blocking(move || Snapshot::take(&cwd));
        tokio::select! {
            looked = look => looked.ok(),
            () = interrupts.pressed() => None,
        }
    }

    fn look(&self) -> Snapshot {
        match self.places.watch {
            true => Snapshot::take(self.kernel.cwd()),
            false => Snapshot::default(),
        }
    }
}

fn lost(reason: &str) -> Event {
    Event::Kernel {
        state: KernelState::Lost,
        reason: format!("the kernel {reason}"),
    }
}

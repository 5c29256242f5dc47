//! The kernel behind a bridge, as settings and command line have it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::bridge::{self, Backing, Wish};
use crate::cli::briefing;
use crate::cli::error::CliError;
use crate::cli::setup::{self, Author, Said, Tell};
use crate::cli::{Global, KernelArgs};
use crate::config::{self, Loaded};
use crate::executor::{Executor, Places};
use crate::kernel::packages::Packages;
use crate::kernel::{Launcher, Options, Tap, python};
use crate::session::conversation::Place;
use crate::session::whereabouts::Surroundings;
use crate::session::{self, Session, Workspace};

/// Where the code will run, in words for people, as far as settings that can be read say.
pub fn place(global: &Global, args: &KernelArgs) -> String {
    let mode = load(global, args, None).map(|loaded| loaded.settings.execution_service.kernel_mode);
    let place = mode.ok().and_then(|mode| bridge::place(mode.name()));
    place.unwrap_or("a place of its own").to_owned()
}

/// Settings, with what the kernel's command line and a wish change of them.
pub fn load(global: &Global, args: &KernelArgs, wish: Option<&Wish>) -> Result<Loaded, CliError> {
    setup::read(
        global,
        &[
            ("execution_service.kernel_mode", args.mode.clone()),
            ("kernel.name", args.kernel.clone()),
            ("llm.model", wish.and_then(|wish| wish.model.clone())),
            (
                "code_interpreter.approve",
                wish.and_then(|wish| wish.approve.clone()),
            ),
        ],
    )
}

/// The kernel behind the bridge, as the settings have it. They are read at each start and for each request: what was
/// mended meanwhile counts.
#[derive(Clone)]
pub struct Served {
    global: Global,
    args: KernelArgs,
    whose: Whose,
    /// That it was installed with.
    python: Option<PathBuf>,
    surroundings: Arc<Mutex<Surroundings>>,
    /// Is told what they are.
    told: Told,
}

/// Somebody who is told what is known once a kernel has been chosen.
pub type Told = Option<Arc<dyn Fn(&Surroundings) + Send + Sync>>;

/// Whom the kernel is for.
#[derive(Clone)]
pub enum Whose {
    /// A front end, whose notebook's session has this name.
    Notebook(String),
    /// A session at the terminal.
    Session(Workspace),
}

impl Served {
    pub fn new(global: &Global, args: KernelArgs, whose: Whose) -> Served {
        Served {
            global: global.clone(),
            args,
            whose,
            python: None,
            surroundings: Arc::default(),
            told: None,
        }
    }

    /// On this Python, where neither a kernel is named nor one comes with the mode.
    pub fn on(self, python: Option<PathBuf>) -> Served {
        Served { python, ..self }
    }

    /// Who else is to know what kernel was chosen, each time that one is.
    pub fn telling(mut self, told: Arc<dyn Fn(&Surroundings) + Send + Sync>) -> Served {
        self.told = Some(told);
        self
    }

    /// What an agent needs to work in such surroundings.
    pub fn place_in(&self, surroundings: Surroundings, wish: &Wish) -> Result<Place, String> {
        // Read anew, so that a key or a model set meanwhile counts.
        let place = || {
            let loaded = load(&self.global, &self.args, Some(wish))?;
            let settings = &loaded.settings;
            let model = settings.llm.model.as_deref().unwrap_or_default();
            if model.trim().is_empty() && settings.llm.replay.is_none() {
                return Err(no_model());
            }
            let Surroundings {
                mode,
                kernel,
                environment,
            } = surroundings;
            Ok::<_, CliError>(Place {
                llm: setup::provider(settings)?,
                agent: crate::agent::Limits {
                    extent: wish.extent,
                    ..setup::agent_limits(settings)?
                },
                environment,
                characters: settings.code_interpreter.output_chars,
                mode,
                kernel,
            })
        };
        place().map_err(in_cell)
    }

    fn surroundings(&self) -> std::sync::MutexGuard<'_, Surroundings> {
        // Replaced as a whole, so it is valid after a panic.
        self.surroundings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(
        self,
        tap: Arc<dyn Tap>,
        progress: mpsc::UnboundedSender<String>,
    ) -> Result<Executor, CliError> {
        let loaded = load(&self.global, &self.args, None)?;
        // Nobody listens any more when the bridge has ended.
        let mut tell = {
            let progress = progress.clone();
            move |said: Said| drop(progress.send(said.text()))
        };
        for warning in &loaded.warnings {
            tell(Said::Warning(warning.clone()));
        }
        let launcher = setup::launcher(&loaded.settings, Author::Model, &mut tell).await?;
        let limits = setup::limits(&loaded.settings);
        let (options, packages) = tokio::task::spawn_blocking(move || {
            let step = &mut |step: &str| drop(progress.send(step.to_owned()));
            self.options(&loaded, launcher, step, &mut tell)
        })
        .await
        .map_err(|error| CliError::Missing(error.to_string()))??;
        let options = Options {
            tap: Some(tap),
            ..options
        };
        // What the front end shows is the front end's to keep.
        let places = Places::default();
        let executor = Executor::start(options, places, limits).await?;
        Ok(executor.with_packages(packages))
    }

    /// What the kernel is started with. Blocking.
    fn options(
        &self,
        loaded: &Loaded,
        launcher: Arc<dyn Launcher>,
        progress: python::Progress,
        tell: Tell,
    ) -> Result<(Options, Option<Packages>), CliError> {
        let settings = &loaded.settings;
        let python = self.python.as_deref();
        let precautions = setup::precautions(loaded, launcher.isolates(), &self.args.mounts);
        let choice =
            setup::choose_kernel_telling(settings, &*launcher, python, &precautions, progress);
        let choice = choice.map_err(|error| match python {
            Some(_) if settings.kernel.name.is_none() => CliError::Missing(format!(
                "{error} This kernel was installed with it. Run again: heddle kernel install"
            )),
            _ => error,
        })?;
        let packages = setup::packages(loaded, &choice, &*launcher, tell);
        let found = Surroundings {
            mode: launcher.mode().to_owned(),
            kernel: choice.name().to_owned(),
            environment: briefing::environment(
                launcher.mode(),
                &choice,
                settings,
                &setup::grants(settings, &self.args.mounts)?,
                packages.as_ref(),
                true,
            ),
        };
        if let Some(told) = &self.told {
            told(&found);
        }
        *self.surroundings() = found;
        let cwd = match &self.whose {
            Whose::Notebook(_) => setup::working_directory(&*launcher, tell)?,
            Whose::Session(workspace) => workspace.cwd(),
        };
        let mut options = setup::kernel_options(settings, launcher, choice, &cwd, &self.args)?;
        if let Whose::Session(workspace) = &self.whose {
            options.grants.mounts.push(workspace.outputs_mount());
        }
        let mount = packages.as_ref().map(Packages::mount);
        options.grants.mounts.extend(mount);
        Ok((options, packages))
    }
}

/// Who reads this is at a notebook, whose environment was made long ago.
fn no_model() -> CliError {
    let file = config::user_file();
    let file = file.map_or(
        "heddle/config.toml in your configuration folder".into(),
        |file| file.display().to_string(),
    );
    CliError::Missing(format!(
        "no model is set. Write into {file}:\n\n[llm]\nmodel = \"NAME\"\n\n\
         and run the cell again; the kernel need not be restarted. llm.api_base and llm.api_key go there too. For this \
         request alone: --model NAME"
    ))
}

/// An error as a cell shows it.
fn in_cell(error: CliError) -> String {
    match error {
        CliError::Config(error) => format!(
            "{error}\nWhen that is mended, run the cell again; the kernel need not be restarted"
        ),
        error => error.to_string(),
    }
}

impl Backing for Served {
    fn start(
        &self,
        tap: Arc<dyn Tap>,
        progress: mpsc::UnboundedSender<String>,
    ) -> BoxFuture<'static, Result<Executor, String>> {
        let started = self.clone().start(tap, progress);
        Box::pin(async move { started.await.map_err(in_cell) })
    }

    fn place(&self, wish: &Wish) -> Result<Place, String> {
        self.place_in(self.surroundings().clone(), wish)
    }

    fn session(&self) -> Result<Session, String> {
        let name = match &self.whose {
            Whose::Notebook(name) => name.clone(),
            // The terminal has the session itself; what is asked in a front end has one of its own.
            Whose::Session(workspace) => session::notebooks::beside(workspace),
        };
        let root =
            load(&self.global, &self.args, None).and_then(|loaded| setup::workspace(&loaded));
        let root = root.map_err(in_cell)?;
        session::notebooks::open(&root, &name).map_err(|error| error.to_string())
    }
}

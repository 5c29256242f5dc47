//! The kernel behind a bridge, as settings and command line have it.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::bridge::{Backing, Wish};
use crate::cli::error::CliError;
use crate::cli::setup::{self, Author};
use crate::cli::{Global, KernelArgs};
use crate::config::Loaded;
use crate::executor::{Executor, Places};
use crate::kernel::Tap;
use crate::session::conversation::Place;
use crate::session::whereabouts::Surroundings;
use crate::session::{self, Session, Workspace};

/// In words for people.
pub fn place(loaded: &Loaded) -> String {
    use crate::config::KernelMode;
    match loaded.settings.execution_service.kernel_mode {
        KernelMode::Auto => "a place of its own",
        KernelMode::Container => "a container",
        KernelMode::Sandbox => "the sandbox",
        KernelMode::Local => "a plain process, unprotected",
    }
    .to_owned()
}

/// Settings, with what the kernel's command line and a wish change of them.
pub fn load(global: &Global, args: &KernelArgs, wish: Option<&Wish>) -> Result<Loaded, CliError> {
    setup::load(
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

/// The kernel behind the bridge, as the settings have it.
pub struct Served {
    global: Global,
    args: KernelArgs,
    loaded: Arc<Loaded>,
    whose: Whose,
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
    pub fn new(global: &Global, args: KernelArgs, loaded: Loaded, whose: Whose) -> Served {
        Served {
            global: global.clone(),
            args,
            loaded: Arc::new(loaded),
            whose,
            surroundings: Arc::default(),
            told: None,
        }
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
        place().map_err(|error: CliError| error.to_string())
    }

    fn surroundings(&self) -> std::sync::MutexGuard<'_, Surroundings> {
        // Replaced as a whole, so it is valid after a panic.
        self.surroundings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn start(
    loaded: Arc<Loaded>,
    args: KernelArgs,
    whose: Whose,
    surroundings: Arc<Mutex<Surroundings>>,
    told: Told,
    tap: Arc<dyn Tap>,
    progress: mpsc::UnboundedSender<String>,
) -> Result<Executor, CliError> {
    let settings = &loaded.settings;
    let launcher = setup::launcher(settings, Author::Model).await?;
    let limits = setup::limits(settings);
    let (options, packages) = tokio::task::spawn_blocking({
        let loaded = loaded.clone();
        move || {
            let settings = &loaded.settings;
            let choice = setup::choose_kernel_telling(settings, &*launcher, &mut |step| {
                // Nobody listens any more when the bridge has ended.
                let _ = progress.send(step.to_owned());
            })?;
            let packages = setup::packages(&loaded, &choice, &*launcher);
            let found = Surroundings {
                mode: launcher.mode().to_owned(),
                kernel: choice.name().to_owned(),
                environment: setup::environment(
                    launcher.mode(),
                    &choice,
                    settings,
                    &setup::grants(settings, &args.mounts)?,
                    packages.as_ref(),
                    true,
                ),
            };
            if let Some(told) = told {
                told(&found);
            }
            *surroundings.lock().unwrap_or_else(PoisonError::into_inner) = found;
            let cwd = match &whose {
                Whose::Notebook(_) => setup::working_directory(&*launcher)?,
                Whose::Session(workspace) => workspace.cwd(),
            };
            let mut options = setup::kernel_options(settings, launcher, choice, &cwd, &args)?;
            if let Whose::Session(workspace) = &whose {
                options.grants.mounts.push(workspace.outputs_mount());
            }
            let mount = packages
                .as_ref()
                .map(crate::kernel::packages::Packages::mount);
            options.grants.mounts.extend(mount);
            Ok::<_, CliError>((options, packages))
        }
    })
    .await
    .map_err(|error| CliError::Missing(error.to_string()))??;
    let options = crate::kernel::Options {
        tap: Some(tap),
        ..options
    };
    // What the front end shows is the front end's to keep.
    let places = Places {
        artifacts: None,
        texts: None,
        watch: false,
    };
    let executor = Executor::start(options, places, limits).await?;
    Ok(executor.with_packages(packages))
}

impl Backing for Served {
    fn start(
        &self,
        tap: Arc<dyn Tap>,
        progress: mpsc::UnboundedSender<String>,
    ) -> BoxFuture<'static, Result<Executor, String>> {
        let (loaded, args) = (self.loaded.clone(), self.args.clone());
        let (whose, surroundings) = (self.whose.clone(), self.surroundings.clone());
        let told = self.told.clone();
        Box::pin(async move {
            let started = start(loaded, args, whose, surroundings, told, tap, progress).await;
            started.map_err(|error| error.to_string())
        })
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
        let root = setup::workspace(&self.loaded).map_err(|error| error.to_string())?;
        session::notebooks::open(&root, &name).map_err(|error| error.to_string())
    }
}

//! `heddle kernel serve`: what a front end starts.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::bridge::{self, Backing, Conduct, Wish};
use crate::cli::error::{CliError, Exit};
use crate::cli::setup::{self, Author};
use crate::cli::{Global, KernelArgs};
use crate::config::Loaded;
use crate::executor::{Executor, Places};
use crate::kernel::Tap;
use crate::protocol::content::KernelInfoReply;
use crate::protocol::{ConnectionInfo, Content};
use crate::session::conversation::Place;
use crate::session::{self, Session};

#[derive(Args)]
pub struct Serve {
    /// The connection file that the front end has written
    #[arg(short = 'f', long = "connection-file", value_name = "FILE")]
    connection_file: PathBuf,
    /// What the kernel said of itself when it was installed
    #[arg(long, value_name = "FILE")]
    info: Option<PathBuf>,
    #[command(flatten)]
    kernel: KernelArgs,
}

impl Serve {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let file = std::path::absolute(&self.connection_file)
            .map_err(CliError::io("the connection file's folder cannot be found"))?;
        let connection = read_connection(&file)?;
        let loaded = load(global, &self.kernel, None)?;
        let conduct = Conduct {
            info: self.info.as_deref().and_then(read_info),
            place: place(&loaded),
            idle: None,
        };
        let backing = Served {
            global: global.clone(),
            args: self.kernel,
            loaded: Arc::new(loaded),
            name: session::notebooks::name(&file, &connection),
            surroundings: Arc::default(),
        };
        let ended = bridge::serve(&connection, Arc::new(backing), conduct, abandoned()?).await;
        ended
            .map(|_| Exit::Done)
            .map_err(|error| CliError::Missing(error.to_string()))
    }
}

fn read_connection(file: &Path) -> Result<ConnectionInfo, CliError> {
    let text = std::fs::read(file).map_err(CliError::io(format!(
        "the connection file {} cannot be read",
        file.display()
    )))?;
    ConnectionInfo::from_json(&text)
        .map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))
}

fn read_info(file: &Path) -> Option<KernelInfoReply> {
    let text = std::fs::read(file).ok()?;
    match Content::decode("kernel_info_reply", &text.into()) {
        Content::KernelInfoReply(info) => Some(info),
        _ => None,
    }
}

fn place(loaded: &Loaded) -> String {
    use crate::config::KernelMode;
    match loaded.settings.execution_service.kernel_mode {
        KernelMode::Auto => "a place of its own",
        KernelMode::Container => "a container",
        KernelMode::Sandbox => "the sandbox",
        KernelMode::Local => "a plain process, unprotected",
    }
    .to_owned()
}

/// Waits until nobody is there any more who wants us: the front end has gone, or tells us to go by a signal.
fn abandoned() -> Result<impl Future<Output = ()>, CliError> {
    let watch = |kind| signal(kind).map_err(CliError::io("signals cannot be watched"));
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hang_up = watch(SignalKind::hangup())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    // A front end interrupts by message; a signal from its terminal is not for us.
    let by_hand = std::io::stdin().is_terminal();
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = hang_up.recv() => return,
                () = bridge::parent::gone() => return,
                _ = interrupt.recv() => if by_hand { return },
            }
        }
    })
}

/// Settings, with what the kernel's command line and a wish change of them.
fn load(global: &Global, args: &KernelArgs, wish: Option<&Wish>) -> Result<Loaded, CliError> {
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
struct Served {
    global: Global,
    args: KernelArgs,
    loaded: Arc<Loaded>,
    /// Names the notebook's session.
    name: String,
    surroundings: Arc<Mutex<Surroundings>>,
}

/// What is known once a kernel has been chosen.
#[derive(Clone, Default)]
struct Surroundings {
    mode: String,
    kernel: String,
    /// What the models are told of them.
    environment: String,
}

impl Served {
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
    surroundings: Arc<Mutex<Surroundings>>,
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
                    packages.as_ref(),
                    true,
                ),
            };
            *surroundings.lock().unwrap_or_else(PoisonError::into_inner) = found;
            let cwd = setup::working_directory(&*launcher)?;
            let mut options = setup::kernel_options(settings, launcher, choice, &cwd, &args)?;
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
        let surroundings = self.surroundings.clone();
        Box::pin(async move {
            let started = start(loaded, args, surroundings, tap, progress).await;
            started.map_err(|error| error.to_string())
        })
    }

    fn place(&self, wish: &Wish) -> Result<Place, String> {
        // Read anew, so that a key or a model set meanwhile counts.
        let place = || {
            let loaded = load(&self.global, &self.args, Some(wish))?;
            let settings = &loaded.settings;
            let Surroundings {
                mode,
                kernel,
                environment,
            } = self.surroundings().clone();
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

    fn session(&self) -> Result<Session, String> {
        let root = setup::workspace(&self.loaded).map_err(|error| error.to_string())?;
        session::notebooks::open(&root, &self.name).map_err(|error| error.to_string())
    }
}

//! The kernel behind a bridge, as settings and command line have it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::bridge::{self, Backing, Wish};
use crate::cli::briefing;
use crate::cli::error::CliError;
use crate::cli::setup::{self, Author, Said, Tell};
use crate::cli::trust::{self, Uses};
use crate::cli::{Global, KernelArgs, own_kernel};
use crate::config::{self, CodeInterpreter, Loaded, Settings, Stamp, Waiting};
use crate::executor::{Executor, Places};
use crate::kernel::packages::Packages;
use crate::kernel::{Launcher, Options, Tap, python};
use crate::session::conversation::Place;
use crate::session::whereabouts::Surroundings;
use crate::session::{self, Session, Workspace};

/// Where the code will run, in words for people, as far as settings that can be read say.
pub fn place(reader: &Reader) -> String {
    let mode = reader.read(Uses::NOTHING, None);
    let mode = mode.map(|loaded| loaded.settings.execution_service.kernel_mode);
    let place = mode.ok().and_then(|mode| bridge::place(mode.name()));
    place.unwrap_or("a place of its own").to_owned()
}

/// Reads the settings of a bridge, where nobody can be asked.
#[derive(Clone)]
pub struct Reader {
    global: Global,
    args: KernelArgs,
    /// What the command line trusts: the values that stood in the project file when it was read first.
    given: Arc<OnceLock<Vec<Waiting>>>,
}

impl Reader {
    pub fn new(global: &Global, args: &KernelArgs) -> Reader {
        Reader {
            global: global.clone(),
            args: args.clone(),
            given: Arc::default(),
        }
    }

    /// Settings, with what the kernel's command line and a wish change of them.
    ///
    /// # Errors
    /// Also where values that are used wait for trust.
    pub fn read(&self, uses: Uses, wish: Option<&Wish>) -> Result<Loaded, CliError> {
        let mut loaded = setup::read(&self.global, &self.flags(wish))?;
        if self.global.trust {
            loaded.accept(self.given.get_or_init(|| loaded.waiting.clone()).as_slice());
        }
        let waiting = uses.waiting(&loaded);
        match waiting.is_empty() || self.global.distrust {
            true => Ok(loaded),
            false => Err(trust::refused(&loaded, &waiting)),
        }
    }

    fn flags(&self, wish: Option<&Wish>) -> [(&'static str, Option<String>); 4] {
        [
            ("execution_service.kernel_mode", self.args.mode.clone()),
            ("kernel.name", self.args.kernel.clone()),
            ("llm.model", wish.and_then(|wish| wish.model.clone())),
            (
                "code_interpreter.approve",
                wish.and_then(|wish| wish.approve.clone()),
            ),
        ]
    }

    fn stamp(&self) -> Stamp {
        let request = setup::request(&self.global, &self.flags(None));
        request.map_or_else(|_| Stamp::default(), |request| Stamp::of(&request))
    }
}

/// The kernel behind the bridge, as the settings have it. What they say of it is settled by its first start, so that
/// nothing that its code writes can have a part in the next one; what they say of the model, and of when the person is
/// asked, is read anew for each request.
#[derive(Clone)]
pub struct Served {
    reader: Reader,
    whose: Whose,
    /// That it was installed with.
    python: Option<PathBuf>,
    settled: Arc<OnceLock<Plan>>,
    noticed: Arc<Mutex<Noticed>>,
    surroundings: Arc<Mutex<Surroundings>>,
    /// Is told what they are.
    told: Told,
}

/// What each kernel of this process is started with.
#[derive(Clone)]
struct Plan {
    loaded: Arc<Loaded>,
    options: Options,
    packages: Option<Packages>,
}

/// What is known of changes since.
#[derive(Default)]
struct Noticed {
    stamp: Stamp,
    /// What was told last.
    told: Option<String>,
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
    pub fn new(reader: Reader, whose: Whose) -> Served {
        Served {
            reader,
            whose,
            python: None,
            settled: Arc::default(),
            noticed: Arc::default(),
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

    /// What an agent needs to work in such surroundings, under what the settings said when the kernel was started.
    pub fn place_in(
        &self,
        settled: &Settings,
        surroundings: Surroundings,
        wish: &Wish,
    ) -> Result<Place, String> {
        // Read anew, so that a key or a model set meanwhile counts.
        let place = || {
            let now = self.reader.read(Uses::REQUEST, Some(wish))?.settings;
            let settings = &Settings {
                llm: now.llm,
                code_interpreter: CodeInterpreter {
                    approve: now.code_interpreter.approve,
                    ..settled.code_interpreter.clone()
                },
                ..settled.clone()
            };
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

    /// The session of what front ends ask of the agent.
    pub fn session_in(&self, settled: &Loaded) -> Result<Session, String> {
        let name = match &self.whose {
            Whose::Notebook(name) => name.clone(),
            // The terminal has the session itself; what is asked in a front end has one of its own.
            Whose::Session(workspace) => session::notebooks::beside(workspace),
        };
        let sessions = setup::sessions(settled).map_err(in_cell)?;
        session::notebooks::open(&sessions, &name).map_err(|error| error.to_string())
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
        let plan = match self.settled.get() {
            Some(plan) => plan.clone(),
            None => self.plan(progress).await?,
        };
        let options = Options {
            tap: Some(tap),
            ..plan.options.clone()
        };
        let limits = setup::limits(&plan.loaded.settings);
        // What the front end shows is the front end's to keep.
        let executor = Executor::start(options, Places::default(), limits).await?;
        let packages = plan.packages.clone();
        if self.settled.set(plan).is_ok() {
            self.noticed().stamp = self.reader.stamp();
        }
        Ok(executor.with_packages(packages))
    }

    async fn plan(&self, progress: mpsc::UnboundedSender<String>) -> Result<Plan, CliError> {
        let mut loaded = self.reader.read(Uses::PLAN, None)?;
        // Nobody listens any more when the bridge has ended.
        let mut tell = {
            let progress = progress.clone();
            move |said: Said| drop(progress.send(said.text()))
        };
        for warning in &loaded.warnings {
            tell(Said::Warning(warning.clone()));
        }
        // Looks for kernelspecs, also by asking a Python.
        let args = self.reader.args.clone();
        let unfolded = tokio::task::spawn_blocking(move || {
            let judged = setup::precautions(&loaded, true, &args);
            own_kernel::unfold(&mut loaded.settings, &judged);
            loaded
        });
        let loaded = unfolded
            .await
            .map_err(|error| CliError::Missing(error.to_string()))?;
        let launcher = setup::launcher(&loaded.settings, Author::Model, &mut tell).await?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let step = &mut |step: &str| drop(progress.send(step.to_owned()));
            let (options, packages) = this.options(&loaded, launcher, step, &mut tell)?;
            Ok(Plan {
                loaded: Arc::new(loaded),
                options,
                packages,
            })
        })
        .await
        .map_err(|error| CliError::Missing(error.to_string()))?
    }

    fn noticed(&self) -> std::sync::MutexGuard<'_, Noticed> {
        // Replaced as a whole, so it is valid after a panic.
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the settings say now, and this process does not follow.
    fn unfollowed(&self, plan: &Plan) -> Option<String> {
        // A mistake is told to who needs them.
        let now = self.reader.read(Uses::NOTHING, None).ok()?;
        let waiting: Vec<String> = match self.reader.global.distrust {
            true => Vec::new(),
            false => Uses::PLAN.waiting(&now).iter().map(trust::line).collect(),
        };
        if !waiting.is_empty() {
            return Some(format!(
                "the project file sets what counts only once you trust it: {}. This kernel goes on as it was started. To \
                 look at it and decide: {}, then restart the kernel",
                waiting.join(", "),
                trust::command(&now)
            ));
        }
        let changes = plan.loaded.changes(&now);
        let changes = changes.filter(|it| Uses::PLAN.contains(it.key));
        let changes: Vec<String> = changes
            .map(|it| format!("{} = {} ({})", it.key, it.shown, it.source))
            .collect();
        (!changes.is_empty()).then(|| {
            format!(
                "changed settings count when the kernel is restarted: {}",
                changes.join(", ")
            )
        })
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
        let precautions = setup::precautions(loaded, launcher.isolates(), &self.reader.args);
        let choice =
            setup::choose_kernel_telling(settings, &*launcher, python, &precautions, progress);
        let choice = choice.map_err(|error| match python {
            Some(_) if settings.kernel.name.is_none() => CliError::Missing(format!(
                "{error} This kernel was installed with it. Run again: heddle kernel install"
            )),
            _ => error,
        })?;
        let packages = setup::packages(loaded, &choice, &*launcher, tell);
        let mut grants = setup::grants(loaded, &self.reader.args)?;
        if let Whose::Session(_) = &self.whose {
            grants.project = setup::project(&self.reader.global, loaded, tell)?;
        }
        let found = Surroundings {
            mode: launcher.mode().to_owned(),
            kernel: choice.name().to_owned(),
            environment: briefing::environment(
                launcher.mode(),
                &choice,
                settings,
                &grants,
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
        let mut options = setup::kernel_options(loaded, launcher, choice, &cwd, &self.reader.args)?;
        options.grants = grants;
        let launcher = &*options.launcher;
        setup::tell_grants(
            loaded,
            &self.reader.args,
            launcher,
            Some(&cwd),
            &options.grants,
            tell,
        );
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
        CliError::Untrusted(error) => {
            format!("{error}\nThen run the cell again; the kernel need not be restarted")
        }
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
        let plan = self.settled.get().ok_or("no kernel has started yet")?;
        self.place_in(&plan.loaded.settings, self.surroundings().clone(), wish)
    }

    fn news(&self) -> Option<String> {
        let plan = self.settled.get()?;
        let stamp = self.reader.stamp();
        let mut noticed = self.noticed();
        if noticed.stamp == stamp {
            return None;
        }
        let news = self.unfollowed(plan);
        let known = noticed.told == news;
        *noticed = Noticed {
            stamp,
            told: news.clone(),
        };
        news.filter(|_| !known)
    }

    fn session(&self) -> Result<Session, String> {
        let plan = self.settled.get().ok_or("no kernel has started yet")?;
        self.session_in(&plan.loaded)
    }
}

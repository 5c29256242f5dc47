//! `heddle kernel install` and `uninstall`: kernelspecs that start Heddle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::error::{CliError, Exit};
use crate::cli::output::print;
use crate::cli::setup::{self, Author};
use crate::cli::trust::{self, Uses};
use crate::cli::{Global, KernelArgs, own_kernel};
use crate::config::{KernelMode, Loaded};
use crate::kernel::{Choice, Kernel, discovery, python};
use crate::protocol::content::KernelInfoReply;
use crate::protocol::kernelspec::is_valid_name;
use crate::protocol::{Content, InterruptMode, KernelSpec};

/// The file beside `kernel.json` with what the kernel said of itself.
const INFO: &str = "kernel_info.json";

const LOGOS: &[(&str, &[u8])] = &[
    (
        "logo-svg.svg",
        include_bytes!("../../../kernelspec/logos/logo-svg.svg"),
    ),
    (
        "logo-32x32.png",
        include_bytes!("../../../kernelspec/logos/logo-32x32.png"),
    ),
    (
        "logo-64x64.png",
        include_bytes!("../../../kernelspec/logos/logo-64x64.png"),
    ),
];

/// Where a kernelspec goes.
#[derive(Args)]
#[group(multiple = false)]
struct Where {
    /// For you alone (the default)
    #[arg(long)]
    user: bool,
    /// Into the Python environment that is active
    #[arg(long)]
    sys_prefix: bool,
    /// Into an environment or installation: DIR/share/jupyter/kernels
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
}

#[derive(Args)]
pub struct Install {
    /// The name that front ends start it by
    #[arg(long, default_value = "heddle", value_name = "NAME")]
    name: String,
    /// The name that people see
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    kernel: KernelArgs,
}

#[derive(Args)]
pub struct Uninstall {
    /// The name that it was installed by
    #[arg(default_value = "heddle", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: Where,
}

impl Install {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        if !is_valid_name(&self.name) {
            return Err(CliError::Usage(format!(
                "--name {}: a kernel's name has letters, digits and . _ - only",
                self.name
            )));
        }
        let folder = self.place.kernels()?.join(self.name.to_ascii_lowercase());
        if folder.exists() && !is_ours(&folder) {
            return Err(CliError::Usage(format!(
                "{} is another program's kernel. Choose another --name",
                folder.display()
            )));
        }
        let loaded = Arc::new(self.settings(global)?);
        // Front ends wait for a minute at most, so what takes longer is made now, and what cannot work is found now.
        let (info, python) = first_start(&loaded, &self.kernel).await?;
        let spec = self.spec(global, &loaded, &info, python.as_deref())?;
        write(&folder, &spec, &info).map_err(CliError::io(format!(
            "the kernel cannot be written to {}",
            folder.display()
        )))?;
        print(&format!(
            "Installed {:?} as {} in {}\nChoose it in JupyterLab or VS Code, or type: jupyter console --kernel {}\n",
            spec.display_name,
            self.name,
            folder.display(),
            self.name
        ))?;
        Ok(Exit::Done)
    }

    /// Who names a project here trusts it: its kernel starts where nobody can be asked.
    fn settings(&self, global: &Global) -> Result<Loaded, CliError> {
        let flags = [
            ("execution_service.kernel_mode", self.kernel.mode.clone()),
            ("kernel.name", self.kernel.kernel.clone()),
        ];
        let mut loaded = match &global.project {
            Some(_) => {
                let mut loaded = setup::read(global, &flags)?;
                for warning in &loaded.warnings {
                    setup::warn(warning);
                }
                let named = std::mem::take(&mut loaded.waiting);
                if !named.is_empty() {
                    trust::remember(&loaded, &named);
                    setup::note("You named this project, so these values of its file are trusted:");
                    named
                        .iter()
                        .for_each(|it| setup::note(&format!("  {}", trust::line(it))));
                    loaded.waiting = named.clone();
                    loaded.accept(&named);
                }
                loaded
            }
            None => setup::load(global, Uses::PLAN, &flags)?,
        };
        let judged = setup::precautions(&loaded, true, &self.kernel);
        own_kernel::unfold(&mut loaded.settings, &judged);
        Ok(loaded)
    }

    fn spec(
        &self,
        global: &Global,
        loaded: &Loaded,
        info: &KernelInfoReply,
        python: Option<&Path>,
    ) -> Result<KernelSpec, CliError> {
        let heddle = std::env::current_exe()
            .map_err(CliError::io("the heddle binary cannot be found"))?
            .to_string_lossy()
            .into_owned();
        let mut argv = vec![heddle];
        argv.extend(["kernel", "serve", "-f", "{connection_file}"].map(str::to_owned));
        argv.push(format!("--info={{resource_dir}}/{INFO}"));
        // The front end has another PATH, and an environment of its own.
        argv.extend(python.map(|python| format!("--python={}", python.display())));
        if let Some(project) = &global.project {
            // Without links, so that it stays the project that was trusted.
            let project = std::fs::canonicalize(project)
                .map_err(CliError::io("the project's folder cannot be found"))?;
            argv.push(format!("--project={}", project.display()));
        }
        // As the front end's working directory will be another, paths are made exact.
        let grants = setup::grants(loaded, &self.kernel)?;
        let mounts = grants.mounts.iter().map(|mount| {
            let access = if mount.writable { "rw" } else { "ro" };
            format!("{}:{access}", mount.path.display())
        });
        let exact = KernelArgs {
            mounts: mounts.collect(),
            ..self.kernel.clone()
        };
        argv.extend(exact.as_options());
        let display_name = match (
            &self.display_name,
            loaded.settings.execution_service.kernel_mode,
        ) {
            (Some(name), _) => name.clone(),
            (None, KernelMode::Auto) => "Heddle".to_owned(),
            (None, KernelMode::Container) => "Heddle (container)".to_owned(),
            (None, KernelMode::Sandbox) => "Heddle (sandbox)".to_owned(),
            (None, KernelMode::Local) => "Heddle (local, unprotected)".to_owned(),
        };
        let debugger = info.supports("debugger");
        Ok(KernelSpec {
            argv,
            display_name,
            language: info.language_info.name.clone(),
            // A signal would end the bridge or pass the kernel by.
            interrupt_mode: InterruptMode::Message,
            metadata: [("debugger".to_owned(), debugger.into())]
                .into_iter()
                .collect(),
            ..KernelSpec::default()
        })
    }
}

impl Uninstall {
    pub fn run(self) -> Result<Exit, CliError> {
        let folder = match self.place.is_given() {
            true => self.place.kernels()?.join(self.name.to_ascii_lowercase()),
            false => {
                // Only looked for: nothing of it is started.
                let precautions = setup::precautions_with(std::iter::empty());
                let prefixes = crate::kernel::prefixes(&precautions);
                discovery::find(&self.name, &prefixes, &precautions)?.folder
            }
        };
        if !folder.exists() {
            return Err(CliError::Usage(format!(
                "there is no kernel {} in {}. See: heddle kernel list",
                self.name,
                folder.parent().unwrap_or(&folder).display()
            )));
        }
        if !is_ours(&folder) {
            return Err(CliError::Usage(format!(
                "{} was not installed by heddle. To remove it: jupyter kernelspec remove {}",
                folder.display(),
                self.name
            )));
        }
        std::fs::remove_dir_all(&folder).map_err(CliError::io(format!(
            "{} cannot be removed",
            folder.display()
        )))?;
        print(&format!("Removed {}\n", folder.display()))?;
        Ok(Exit::Done)
    }
}

impl Where {
    fn is_given(&self) -> bool {
        self.user || self.sys_prefix || self.prefix.is_some()
    }

    /// The folder of all kernelspecs there.
    fn kernels(&self) -> Result<PathBuf, CliError> {
        let prefix = match (&self.prefix, self.sys_prefix) {
            (Some(prefix), _) => Some(
                std::path::absolute(prefix).map_err(CliError::io("--prefix cannot be found"))?,
            ),
            (None, true) => Some(active_prefix()?),
            (None, false) => None,
        };
        match prefix {
            Some(prefix) => Ok(prefix.join("share/jupyter/kernels")),
            None => discovery::user_data_folder()
                .map(|folder| folder.join("kernels"))
                .ok_or_else(|| {
                    CliError::Usage("there is no home folder. Set HOME, or use --prefix".into())
                }),
        }
    }
}

/// `sys.prefix` of the Python that is active.
fn active_prefix() -> Result<PathBuf, CliError> {
    let precautions = setup::precautions_with(std::iter::empty());
    python::active_prefix(&precautions).ok_or_else(|| {
        CliError::Missing(
            "--sys-prefix: no python3 can be run here. Activate an environment, or use --prefix DIR".into(),
        )
    })
}

/// Starts the kernel once, as front ends will, and gives what it says of itself, and the Python that was chosen for it.
async fn first_start(
    loaded: &Arc<Loaded>,
    args: &KernelArgs,
) -> Result<(KernelInfoReply, Option<PathBuf>), CliError> {
    let launcher =
        setup::launcher(&loaded.settings, Author::Model, &mut setup::Said::print).await?;
    let work = tempfile::tempdir().map_err(CliError::io("a temporary folder cannot be made"))?;
    let (options, python) = tokio::task::spawn_blocking({
        let (loaded, args, cwd) = (loaded.clone(), args.clone(), work.path().to_owned());
        move || {
            let precautions = setup::precautions(&loaded, launcher.isolates(), &args);
            let choice = setup::choose_kernel(&loaded.settings, &*launcher, &precautions)?;
            let python = match &choice {
                Choice::Python(python) => Some(python.executable.clone()),
                _ => None,
            };
            let options = setup::kernel_options(&loaded, launcher, choice, &cwd, &args)?;
            Ok::<_, CliError>((options, python))
        }
    })
    .await
    .map_err(|error| CliError::Missing(error.to_string()))??;
    let kernel = Kernel::start(options).await?;
    let info = kernel.client().info().await;
    kernel.shutdown().await;
    Ok((info?, python))
}

/// Whether a kernelspec starts Heddle.
fn is_ours(folder: &Path) -> bool {
    let spec = std::fs::read(folder.join("kernel.json")).ok();
    let spec = spec.and_then(|text| KernelSpec::from_json(&text).ok());
    spec.is_some_and(|spec| own_kernel::is_own(&spec))
}

/// Writes the folder, `kernel.json` last: a front end that looks meanwhile finds all of it or nothing.
fn write(folder: &Path, spec: &KernelSpec, info: &KernelInfoReply) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // By rename, so that a link that stands there is replaced and not followed.
    let place = |name: &str, content: &[u8]| {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, content)?;
        // As any other file of a kernelspec, which may be for everybody.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(everybody)?;
        file.persist(folder.join(name))?;
        Ok::<_, std::io::Error>(())
    };
    for (name, logo) in LOGOS {
        place(name, logo)?;
    }
    place(INFO, &Content::from(info.clone()).encode())?;
    let text = serde_json::to_string_pretty(spec)?;
    place("kernel.json", format!("{text}\n").as_bytes())?;
    Ok(())
}

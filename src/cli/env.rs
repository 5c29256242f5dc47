//! `heddle env`: packages for the kernels of a project.

use std::io::IsTerminal;

use clap::{Args, Subcommand};

use super::chat::confirmed;
use super::error::{CliError, Exit};
use super::output::print;
use super::setup::{self, Steps};
use super::table::table;
use super::trust::Uses;
use super::{Global, KernelArgs, own_kernel};
use crate::config::KernelMode;
use crate::kernel::Choice;
use crate::kernel::packages::{PROPOSAL, Packages, PackagesError, Pin, Requirement};
use crate::printable::escape_line;

const ABOUT: &str = "\
Packages are installed outside of the kernels, from wheels alone, and pinned with their dependencies. Kernels of the
project import them in every mode, read-only, running ones at once. Without a project they are the user's. They are for
one Python: this machine's, or in container mode the image's, whose pip then runs in a container of its own. They lie in
your data folder, where no kernel can write; heddle-packages.txt in the project is a proposal, and installs nothing by
itself.";

#[derive(Subcommand)]
#[command(after_help = ABOUT)]
pub enum Env {
    /// Add packages, with what they need
    Add(Names),
    /// The packages that were added
    List {
        #[command(flatten)]
        kernel: Kernel,
    },
    /// Remove packages, with what only they needed
    Remove(Names),
    /// Write the packages, pinned with hashes, into the project, for whoever has it
    Export {
        #[command(flatten)]
        kernel: Kernel,
    },
    /// Show what the project's pins would install, and install it when you agree
    Sync {
        /// Agree beforehand
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        kernel: Kernel,
    },
}

#[derive(Args)]
pub struct Names {
    /// Names as the package index has them, also with extras and versions: "scipy>=1.11"
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    kernel: Kernel,
}

#[derive(Args)]
pub struct Kernel {
    /// The mode whose Python they are for, as for code of a model
    #[arg(long, value_name = "MODE", value_parser = ["auto", "local", "container", "sandbox"])]
    mode: Option<String>,
    /// The kernelspec whose Python they are for, see `heddle kernel list`
    #[arg(long = "kernel", value_name = "NAME")]
    name: Option<String>,
}

impl Env {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self {
            Env::Add(Names { names, kernel }) => {
                let wishes = requirements(&names)?;
                let packages = kernel.packages(global).await?;
                let bar = Steps::new();
                let added = packages.add(&wishes, &mut |step| bar.show(step)).await?;
                drop(bar);
                if global.json {
                    let new: Vec<_> = added.new.iter().map(json).collect();
                    let listing = serde_json::json!({"added": new, "present": added.present});
                    print(&format!("{listing}\n"))?;
                    return Ok(Exit::Done);
                }
                for name in &added.present {
                    eprintln!("{name} is there already.");
                }
                print(&added.new.iter().map(line).collect::<String>())?;
            }
            Env::Remove(Names { names, kernel }) => {
                let wishes = requirements(&names)?;
                let packages = kernel.packages(global).await?;
                let bar = Steps::new();
                let gone = packages.remove(&wishes, &mut |step| bar.show(step)).await?;
                drop(bar);
                match global.json {
                    true => {
                        let gone: Vec<_> = gone.iter().map(json).collect();
                        print(&format!("{}\n", serde_json::json!({"removed": gone})))?;
                    }
                    false => print(&gone.iter().map(line).collect::<String>())?,
                }
            }
            Env::List { kernel } => list(&kernel.packages(global).await?, global.json)?,
            Env::Export { kernel } => export(&kernel.packages(global).await?)?,
            Env::Sync { yes, kernel } => {
                return sync(&kernel.packages(global).await?, yes, global.json).await;
            }
        }
        Ok(Exit::Done)
    }
}

fn list(packages: &Packages, as_json: bool) -> Result<(), CliError> {
    let pins = packages.pins()?;
    if as_json {
        let packages: Vec<_> = pins.iter().map(json).collect();
        return print(&format!("{}\n", serde_json::json!({"packages": packages})));
    }
    if pins.is_empty() {
        if let Ok(Some(proposal)) = packages.proposal() {
            setup::note(&setup::not_installed(&proposal));
        }
        return print("No packages were added. To add one: heddle env add NAME\n");
    }
    let rows: Vec<[String; 3]> = pins
        .into_iter()
        .map(|pin| {
            let why = if pin.asked {
                "asked for"
            } else {
                "needed by others"
            };
            [pin.name, pin.version, why.to_owned()]
        })
        .collect();
    print(&table(["NAME", "VERSION", "WHY"], &rows))
}

fn export(packages: &Packages) -> Result<(), CliError> {
    if packages.pins()?.is_empty() {
        return Err(CliError::Usage(
            "no packages were added, so there is nothing to write. To add one: heddle env add NAME"
                .into(),
        ));
    }
    match packages.export()? {
        Some(path) => print(&format!("{}\n", path.display())),
        None => Err(CliError::Usage(
            "packages are written into a project, and this folder is none. To make it one: heddle init".into(),
        )),
    }
}

async fn sync(packages: &Packages, yes: bool, as_json: bool) -> Result<Exit, CliError> {
    let Some(proposal) = packages.proposal()? else {
        return Err(CliError::Usage(format!(
            "there is no {PROPOSAL} in a project here. To write one where packages were added: heddle env export"
        )));
    };
    let new = packages.lacking(&proposal.pins).await?;
    if new.is_empty() && !as_json {
        print(&format!(
            "All packages of {} are there.\n",
            proposal.path.display()
        ))?;
        return Ok(Exit::Done);
    }
    if !new.is_empty() {
        eprintln!(
            "{} proposes to install:",
            escape_line(&proposal.path.display().to_string())
        );
        for pin in &new {
            let hash = pin.sha256.as_deref();
            let hash = hash.map_or("not pinned by a hash".to_owned(), |hash| {
                format!("sha256:{hash}")
            });
            eprintln!(
                "  {} {}  {}",
                escape_line(&pin.name),
                escape_line(&pin.version.to_string()),
                escape_line(&hash)
            );
        }
        if !yes && !std::io::stdin().is_terminal() {
            return Err(CliError::Usage(
                "nothing was installed, because nobody is at a terminal who could agree. To install these: heddle env sync --yes"
                    .into(),
            ));
        }
        let question = "Install them from the package index? [y/N] ".to_owned();
        if !yes && !confirmed(question).await {
            eprintln!("Nothing was installed.");
            return Ok(Exit::Done);
        }
        let bar = Steps::new();
        packages.install(&new, &mut |step| bar.show(step)).await?;
    }
    match as_json {
        true => {
            let new: Vec<_> = new.iter().map(json).collect();
            print(&format!("{}\n", serde_json::json!({"added": new})))?;
        }
        false => print(&new.iter().map(line).collect::<String>())?,
    }
    Ok(Exit::Done)
}

fn requirements(names: &[String]) -> Result<Vec<Requirement>, PackagesError> {
    names.iter().map(|name| Requirement::parse(name)).collect()
}

fn line(pin: &Pin) -> String {
    format!("{} {}\n", pin.name, pin.version)
}

fn json(pin: &Pin) -> serde_json::Value {
    serde_json::json!({
        "name": pin.name, "version": pin.version, "extras": pin.extras, "asked": pin.asked, "sha256": pin.sha256,
    })
}

impl Kernel {
    async fn packages(&self, global: &Global) -> Result<Packages, CliError> {
        let mut loaded = setup::load(
            global,
            Uses::PYTHON,
            &[
                ("execution_service.kernel_mode", self.mode.clone()),
                ("kernel.name", self.name.clone()),
            ],
        )?;
        let judged = setup::precautions(&loaded, true, &KernelArgs::default());
        own_kernel::unfold(&mut loaded.settings, &judged);
        let launcher = setup::image_launcher(&loaded.settings).await?;
        tokio::task::spawn_blocking(move || {
            // What code in other modes may have changed is judged whatever this launcher does.
            let mode = loaded.settings.execution_service.kernel_mode;
            let isolated = launcher.isolates() || mode != KernelMode::Local;
            let precautions = setup::precautions(&loaded, isolated, &KernelArgs::default());
            let choice = setup::choose_kernel(&loaded.settings, &*launcher, &precautions)?;
            if let Choice::InImage { image, .. } = &choice {
                setup::note(&format!("For kernels in containers of {image}."));
            }
            Ok(setup::try_packages(&loaded, &choice, &*launcher)?)
        })
        .await
        .map_err(|error| CliError::Missing(error.to_string()))?
    }
}

//! `heddle image`: the images that kernels in containers are started from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Global;
use super::error::{CliError, Exit};
use super::keyboard;
use super::output::print;
use super::setup::{self, Steps};
use super::table::table;
use super::trust::Uses;
use crate::kernel::KernelError;
use crate::kernel::container::image::ImageError;
use crate::kernel::container::{Engine, Surroundings, engine, image};
use crate::open;

/// The largest list of packages, or file of certificates, that is read, in bytes.
const LARGEST: u64 = 16 << 20;

#[derive(Subcommand)]
pub enum Image {
    /// Make the kernel's image from a Python image, with the packages that Heddle pins and yours
    Build(Build),
    /// The images that Heddle has made, and the one that is used
    List,
    /// Fetch an image from its registry: NAME, or execution_service.custom_image
    Pull { name: Option<String> },
    /// Remove an image that Heddle has made: NAME, or the one that is used without a custom image
    Remove { name: Option<String> },
}

#[derive(Args)]
pub struct Build {
    /// The image to build on, with a python3 and its venv module
    #[arg(long, value_name = "IMAGE", default_value = image::BASE)]
    base: String,
    /// Further packages, in pip's requirements format
    #[arg(long, value_name = "FILE")]
    requirements: Option<PathBuf>,
    /// Certificates to trust while packages are installed, for networks that open TLS; not in the final image
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The package index to install from instead of PyPI; not in the final image
    #[arg(
        long,
        value_name = "URL",
        env = "PIP_INDEX_URL",
        hide_env_values = true
    )]
    index_url: Option<String>,
    /// Name the image otherwise; to use it, set execution_service.custom_image to that name
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

impl Image {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let custom = setup::load(global, Uses::IMAGE, &[])?
            .settings
            .execution_service
            .custom_image;
        let engine = engine::find(&Surroundings::of_process(), engine::PATIENT)
            .await
            .map_err(KernelError::from)?;
        match self {
            Image::Build(build) => build.run(&engine, custom).await,
            Image::List => list(&engine, custom, global.json).await,
            Image::Pull { name } => {
                let name = name.or(custom).ok_or_else(|| {
                    CliError::Usage(
                        "which image? Name one, or set execution_service.custom_image. Heddle's own is in no registry; \
                         it is made here: heddle image build"
                            .into(),
                    )
                })?;
                let steps = Steps::new();
                image::pull(&engine, &name, &mut |line| steps.show(line)).await?;
                drop(steps);
                print(&format!("{name} is here.\n"))?;
                Ok(Exit::Done)
            }
            Image::Remove { name } => {
                let name = name.unwrap_or_else(image::own_name);
                image::remove(&engine, &name).await?;
                print(&format!("{name} is removed.\n"))?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Build {
    async fn run(self, engine: &Engine, custom: Option<String>) -> Result<Exit, CliError> {
        let read = |path: &PathBuf| {
            open::read_input(path, LARGEST).map_err(|error| {
                CliError::Usage(format!("cannot read {}: {error}", path.display()))
            })
        };
        let requirements = self.requirements.as_ref().map(read).transpose()?;
        let recipe = image::Recipe {
            base: Some(self.base),
            requirements: String::from_utf8(requirements.unwrap_or_default())
                .map_err(|_| CliError::Usage("--requirements: the file is not UTF-8".into()))?,
            certificates: self
                .ca_file
                .as_ref()
                .map(read)
                .transpose()?
                .unwrap_or_default(),
            index: self.index_url,
        };
        let own = image::own_name();
        let name = self.tag.unwrap_or_else(|| own.clone());
        let (_, mut interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let steps = Steps::new();
        let mut tell = |line: &str| steps.show(line);
        match image::build(engine, &recipe, &name, &mut tell, interrupts.pressed()).await {
            Err(ImageError::Stopped) => return Ok(Exit::Interrupted),
            built => built?,
        }
        drop(steps);
        print(&format!("{name} is made.\n"))?;
        let used = custom.as_deref().unwrap_or(&own);
        if used != name {
            print(&format!(
                "Kernels still start from {used}. To use the new one: execution_service.custom_image = \"{name}\"\n"
            ))?;
        }
        Ok(Exit::Done)
    }
}

async fn list(engine: &Engine, custom: Option<String>, json: bool) -> Result<Exit, CliError> {
    let used = custom.unwrap_or_else(image::own_name);
    let mut images = image::list(engine).await?;
    if !images.iter().any(|image| image.name == used)
        && let Some(image) = image::find(engine, &used).await?
    {
        images.push(image);
    }
    if json {
        let images: Vec<serde_json::Value> = images
            .iter()
            .map(|image| {
                serde_json::json!({
                    "name": image.name,
                    "id": image.id,
                    "size": image.size,
                    "packages": image.packages,
                    "used": image.name == used,
                })
            })
            .collect();
        println!("{}", serde_json::json!({"used": used, "images": images}));
        return Ok(Exit::Done);
    }
    if !images.iter().any(|image| image.name == used) {
        println!(
            "Kernels in containers start from {used}, which is not here yet: {}",
            image::how_to_get(&used)
        );
    }
    if !images.is_empty() {
        let rows: Vec<[String; 4]> = images
            .into_iter()
            .map(|image| {
                [
                    if image.name == used { "*" } else { "" }.to_owned(),
                    image.name,
                    format!("{} MB", image.size / 1_000_000),
                    match image.packages {
                        Some(packages) => packages.join(" "),
                        None => "(not made by Heddle)".into(),
                    },
                ]
            })
            .collect();
        print!("{}", table(["", "NAME", "SIZE", "PACKAGES"], &rows));
    }
    Ok(Exit::Done)
}

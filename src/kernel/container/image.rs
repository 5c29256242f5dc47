//! Images for kernels: Heddle's own, made here from its Containerfile, and those that a person names.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder,
    PruneImagesOptionsBuilder, RemoveImageOptions,
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::context::tar;
use super::problem::{MAKE_ROOM, is_full};
use super::{Engine, owner};

const CONTAINERFILE: &str = include_str!("../../../kernelspec/Containerfile");
const REQUIREMENTS: &str = include_str!("../../../kernelspec/requirements.txt");

/// The image that Heddle's own is made on.
pub const BASE: &str = "python:3.12-slim";

/// Marks images that Heddle has made; the value is the packages that were asked for.
const PACKAGES: &str = "heddle.packages";
/// Names the Python to start.
const PYTHON: &str = "heddle.python";
/// Marks the early stages of a build.
const STAGE: &str = "heddle.stage";

/// How long a registry or a build may be silent.
const LONG: Duration = Duration::from_secs(3600);
/// How long the engine may take to let go of a build that is stopped, and how often it is looked whether it has.
const CLEARING: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// How old an early stage is at least that no build works with any more. Its last step is its longest.
const SETTLED: Duration = Duration::from_secs(600);
/// Lines of a failed build that are shown.
const LAST_LINES: usize = 15;

/// Why an image cannot be had. Each message ends with what to type.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the build failed: {reason}{}{}", lines(.said), way_on(.reason, .said))]
    Build { reason: String, said: Vec<String> },
    #[error("the build was stopped")]
    Stopped,
    #[error(
        "{name} is an image already that was not made by Heddle, so Heddle does not replace it. Choose another name, \
         with --tag, or remove it: docker rmi {name}"
    )]
    Taken { name: String },
    #[error(
        "{name} cannot be pulled: {reason}{}\nAn image of Heddle's own is made here: heddle image build",
        room(.reason)
    )]
    Pull { name: String, reason: String },
    #[error(
        "{name:?} is no name of an image: that is lower case, such as my-kernel:1 or registry.example/team/kernel:1. \
         To see those that are here: docker images"
    )]
    NoName { name: String },
    #[error("there is no image {name:?} here. See: heddle image list")]
    Missing { name: String },
    #[error(
        "{name} was not made by Heddle, so Heddle does not remove it. To remove it yourself: docker image rm {name}"
    )]
    NotOurs { name: String },
    #[error("the container engine failed: {error}{}", room(&.error.to_string()))]
    Engine {
        #[from]
        error: DockerError,
    },
}

/// Whether an engine's words mean that there can be no image of such a name.
fn is_no_name(words: &str) -> bool {
    words.contains("invalid reference format")
}

/// What helps where there is no room.
fn room(words: &str) -> String {
    match is_full(words) {
        true => format!("\n{MAKE_ROOM}"),
        false => String::new(),
    }
}

fn lines(said: &[String]) -> String {
    said.iter().map(|line| format!("\n    {line}")).collect()
}

/// What may help a build that has failed; nothing where what was said must do.
fn way_on(reason: &str, said: &[String]) -> String {
    let said_or = |text: &str| reason.contains(text) || said.iter().any(|line| line.contains(text));
    if said_or("o space left on device") {
        return format!("\n{MAKE_ROOM}");
    }
    let is_step = |line: &&String| line.starts_with("Step ") || line.starts_with("STEP ");
    let last = said.iter().rev().find(is_step);
    if last.is_some_and(|step| step.contains(" FROM ")) {
        return format!(
            "\nTo build on an image that is here: heddle image build --base IMAGE    (docker images shows which are)\n\
             To fetch the usual one, where its registry can be reached: heddle image pull {BASE}"
        );
    }
    let distrusts = [
        "CERTIFICATE_VERIFY_FAILED",
        "certificate verify failed",
        "SSLError",
    ];
    match distrusts.into_iter().any(said_or) {
        true => "\nWhere the network opens TLS, give the certificates that it uses: heddle image build --ca-file FILE"
            .into(),
        false => String::new(),
    }
}

/// An image that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for, or as it is tagged.
    pub name: String,
    /// `sha256:…`.
    pub id: String,
    /// The Python to start, where the image says so.
    pub python: Option<String>,
    /// The packages that were asked for when Heddle made it; none where somebody else did.
    pub packages: Option<Vec<String>>,
    /// Bytes.
    pub size: u64,
}

impl Image {
    fn new(name: String, id: String, labels: &HashMap<String, String>, size: i64) -> Image {
        Image {
            name,
            id,
            python: labels.get(PYTHON).cloned(),
            packages: labels
                .get(PACKAGES)
                .map(|packages| packages.split(' ').map(str::to_owned).collect()),
            size: u64::try_from(size).unwrap_or(0),
        }
    }
}

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// The image to build on; [`BASE`] where none is given.
    pub base: Option<String>,
    /// Further packages, in pip's requirements format.
    pub requirements: String,
    /// Certificates (PEM) that the installation trusts, for networks that open TLS. Not in the final image.
    pub certificates: Vec<u8>,
    /// The package index to use instead of PyPI. Not in the final image.
    pub index: Option<String>,
}

/// The name of Heddle's own image: of this version, and of this Containerfile and these requirements.
pub fn own_name() -> String {
    let mut hash = Sha256::new();
    hash.update(CONTAINERFILE);
    hash.update(REQUIREMENTS);
    let hash: String = hash
        .finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("heddle-kernel:{}-{hash}", env!("CARGO_PKG_VERSION"))
}

/// What to type where the image of this name is not here.
pub fn how_to_get(name: &str) -> String {
    if name == own_name() {
        return "heddle image build".into();
    }
    let build = format!("heddle image build --tag {name}");
    // Without a registry or a person before it, a name is of this machine, or of an image that has no kernel.
    match name.contains('/') {
        true => format!("{build}    (or fetch it: heddle image pull {name})"),
        false => build,
    }
}

/// The image of this name, if it is here. No registry is asked.
pub async fn find(engine: &Engine, name: &str) -> Result<Option<Image>, ImageError> {
    match engine.docker.inspect_image(name).await {
        Ok(image) => {
            let labels = image.config.and_then(|config| config.labels);
            Ok(Some(Image::new(
                name.to_owned(),
                image.id.unwrap_or_default(),
                &labels.unwrap_or_default(),
                image.size.unwrap_or_default(),
            )))
        }
        // Docker calls one that there cannot be missing, too.
        Err(error) if is_no_name(&error.to_string()) => Err(ImageError::NoName {
            name: name.to_owned(),
        }),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// All images that Heddle has made here, by name; one without a name by its id.
pub async fn list(engine: &Engine) -> Result<Vec<Image>, ImageError> {
    let options = ListImagesOptionsBuilder::default()
        .filters(&HashMap::from([("label", vec![PACKAGES])]))
        .build();
    let found = engine.docker.list_images(Some(options)).await?;
    let mut images: Vec<Image> = found
        .into_iter()
        // Podman gives what a build was asked to mark to its early stages too.
        .filter(|image| !image.labels.contains_key(STAGE))
        .flat_map(|image| {
            let mut names = image.repo_tags.clone();
            names.retain(|name| name != "<none>:<none>");
            if names.is_empty() {
                names.push(image.id.clone());
            }
            names
                .into_iter()
                .map(move |name| Image::new(name, image.id.clone(), &image.labels, image.size))
        })
        .collect();
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

/// Makes an image and names it `name`, telling what it does line by line, until `stop`. However it ends, nothing is
/// left of its early stage, which holds certificates and addresses, and every package a second time.
///
/// # Errors
/// [`ImageError::Build`] with the last lines of what the build said; [`ImageError::Taken`] where the name is that of
/// an image of somebody else's.
pub async fn build(
    engine: &Engine,
    recipe: &Recipe,
    name: &str,
    progress: &mut (dyn FnMut(&str) + Send),
    stop: impl Future<Output = ()>,
) -> Result<(), ImageError> {
    if let Some(image) = find(engine, name).await?
        && image.packages.is_none()
    {
        return Err(ImageError::Taken {
            name: name.to_owned(),
        });
    }
    let built = tokio::select! {
        built = build_all(engine, recipe, name, progress) => built,
        () = stop => Err(ImageError::Stopped),
    };
    let pruned = tokio::time::timeout(CLEARING, async {
        prune_stages(engine).await;
        // The engine works on for a moment at what was stopped.
        while built.is_err() && !stages(engine).await.is_ok_and(|stages| stages.is_empty()) {
            tokio::time::sleep(AGAIN).await;
            prune_stages(engine).await;
        }
    });
    // Whatever is left then is found again by the doctor.
    let _ = pruned.await;
    built
}

async fn prune_stages(engine: &Engine) {
    let prune = PruneImagesOptionsBuilder::default()
        .filters(&HashMap::from([("label", vec![STAGE])]))
        .build();
    let _ = engine.docker.prune_images(Some(prune)).await;
}

/// Early stages of builds that no image is made of.
async fn stages(engine: &Engine) -> Result<Vec<ImageSummary>, DockerError> {
    let options = ListImagesOptionsBuilder::default()
        .filters(&HashMap::from([
            ("label", vec![STAGE]),
            ("dangling", vec!["true"]),
        ]))
        .build();
    owner::in_time(engine.docker.list_images(Some(options))).await
}

/// Early stages that a build has left behind, by their ids.
///
/// # Errors
/// What the engine said, or that it said nothing.
pub(super) async fn deserted_stages(engine: &Engine) -> Result<Vec<String>, DockerError> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let is_settled = |stage: &ImageSummary| {
        let made = u64::try_from(stage.created).unwrap_or(0);
        now > Duration::from_secs(made).saturating_add(SETTLED)
    };
    let stages = stages(engine).await?.into_iter();
    Ok(stages.filter(is_settled).map(|stage| stage.id).collect())
}

async fn build_all(
    engine: &Engine,
    recipe: &Recipe,
    name: &str,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), ImageError> {
    let failed = |reason: String| ImageError::Build {
        reason,
        said: Vec::new(),
    };
    let pip = recipe.pip_configuration();
    let context = tar(&[
        ("Containerfile", CONTAINERFILE.as_bytes()),
        ("build/requirements.txt", REQUIREMENTS.as_bytes()),
        ("build/more.txt", recipe.requirements.as_bytes()),
        ("build/ca.pem", &recipe.certificates),
        ("build/pip.conf", pip.as_bytes()),
    ])
    .map_err(|error| failed(error.to_string()))?;
    let mut arguments: HashMap<String, String> = proxies();
    if let Some(base) = &recipe.base {
        arguments.insert("BASE".into(), base.clone());
    }
    let packages = recipe.packages().join(" ");
    let labels = HashMap::from([(PACKAGES, packages.as_str())]);
    let mut options = BuildImageOptionsBuilder::default()
        .dockerfile("Containerfile")
        .t(name)
        .buildargs(&arguments)
        .labels(&labels)
        .rm(true)
        .forcerm(true);
    if !has_bridge(engine).await {
        options = options.networkmode("host");
    }
    let body = bollard::body_full(context.into());
    let docker = engine.docker.clone().with_timeout(LONG);
    let mut stream = docker.build_image(options.build(), None, Some(body));
    let mut said: Vec<String> = Vec::new();
    while let Some(step) = stream.next().await {
        let text = match step {
            Ok(info) => info.stream.or(info.status).unwrap_or_default(),
            Err(error) => {
                let reason = match error {
                    DockerError::DockerStreamError { error } => error,
                    other => other.to_string(),
                };
                said.drain(..said.len().saturating_sub(LAST_LINES));
                return Err(ImageError::Build { reason, said });
            }
        };
        for line in text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
        {
            progress(line);
            said.push(line.to_owned());
            // The step that fails is among the last.
            if said.len() > 64 * LAST_LINES {
                said.drain(..32 * LAST_LINES);
            }
        }
    }
    Ok(())
}

impl Recipe {
    fn pip_configuration(&self) -> String {
        let mut text = "[global]\n".to_owned();
        if !self.certificates.is_empty() {
            text.push_str("cert = /build/ca.pem\n");
        }
        if let Some(index) = &self.index {
            text.push_str(&format!(
                "index-url = {}\n",
                index.replace(['\r', '\n'], "")
            ));
        }
        text
    }

    /// The names of the packages that are asked for, without those that they need.
    fn packages(&self) -> Vec<String> {
        let asked = REQUIREMENTS
            .split("# What those need.")
            .next()
            .unwrap_or(REQUIREMENTS);
        let mut names: Vec<String> = asked
            .lines()
            .chain(self.requirements.lines())
            .filter_map(requirement_name)
            .filter(|name| !["ipykernel", "noto-cjk-sans-otc"].contains(&name.as_str()))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The package that a line of a requirements file asks for; none for comments, options and addresses.
fn requirement_name(line: &str) -> Option<String> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .unwrap_or(line.len());
    let name = &line[..end];
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !line.contains("://");
    is_name.then(|| name.to_ascii_lowercase())
}

/// Proxies of this process, for the build alone: the engine keeps these out of the image. None with a password.
fn proxies() -> HashMap<String, String> {
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
        .iter()
        .flat_map(|name| [name.to_string(), name.to_ascii_lowercase()])
        .filter_map(|name| std::env::var(&name).ok().map(|value| (name, value)))
        .filter(|(_, value)| !value.is_empty() && !value.contains('@'))
        .collect()
}

/// Whether containers get a network of their own. Where the engine has none, a build uses the machine's.
pub(super) async fn has_bridge(engine: &Engine) -> bool {
    let lacks = async |name| {
        let network = engine.docker.inspect_network(name, None).await;
        network.is_err_and(|error| is_missing(&error))
    };
    !(lacks("bridge").await && lacks("podman").await)
}

/// Fetches an image from its registry, telling what it does.
pub async fn pull(
    engine: &Engine,
    name: &str,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), ImageError> {
    let tagged = match name.rsplit('/').next().unwrap_or(name).contains([':', '@']) {
        true => name.to_owned(),
        // Without a tag the engine would fetch all of them.
        false => format!("{name}:latest"),
    };
    let options = CreateImageOptionsBuilder::default()
        .from_image(&tagged)
        .build();
    let docker = engine.docker.clone().with_timeout(LONG);
    let mut stream = docker.create_image(Some(options), None, None);
    while let Some(step) = stream.next().await {
        let failed = |reason: String| match is_no_name(&reason) {
            true => ImageError::NoName {
                name: name.to_owned(),
            },
            false => ImageError::Pull {
                name: tagged.clone(),
                reason,
            },
        };
        let step = step.map_err(|error| failed(error.to_string()))?;
        if let Some(reason) = step.error_detail.and_then(|detail| detail.message) {
            return Err(failed(reason));
        }
        if let Some(status) = step.status {
            progress(&status);
        }
    }
    Ok(())
}

/// Removes an image that Heddle has made. Others are left alone.
pub async fn remove(engine: &Engine, name: &str) -> Result<(), ImageError> {
    let image = find(engine, name)
        .await?
        .ok_or_else(|| ImageError::Missing {
            name: name.to_owned(),
        })?;
    if image.packages.is_none() {
        return Err(ImageError::NotOurs {
            name: name.to_owned(),
        });
    }
    engine
        .docker
        .remove_image(name, None::<RemoveImageOptions>, None)
        .await?;
    Ok(())
}

pub(super) fn is_missing(error: &DockerError) -> bool {
    matches!(
        error,
        DockerError::DockerResponseServerError {
            status_code: 404,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_names_what_was_asked_for() {
        let recipe = Recipe {
            requirements: "# mine\nScikit_Learn>=1.5 ; python_version > '3'\n-e git+https://x\n--index-url https://y\n\
                           https://z/a.whl\n\nduckdb[all]==1"
                .into(),
            ..Recipe::default()
        };
        assert_eq!(
            recipe.packages(),
            ["duckdb", "matplotlib", "numpy", "pandas", "scikit_learn"]
        );
    }

    #[test]
    fn certificates_and_index_are_for_the_installation() {
        let recipe = Recipe {
            certificates: b"pem".to_vec(),
            index: Some("https://mirror/simple\nevil = 1".into()),
            ..Recipe::default()
        };
        assert_eq!(
            recipe.pip_configuration(),
            "[global]\ncert = /build/ca.pem\nindex-url = https://mirror/simpleevil = 1\n"
        );
        let final_stage = CONTAINERFILE.rsplit("FROM").next().unwrap();
        assert!(!final_stage.contains("/build"));
    }

    #[test]
    fn a_build_that_failed_says_what_may_help() {
        let at = |reason: &str, said: &[&str]| {
            let said: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
            way_on(reason, &said)
        };
        let first = [
            "Step 1/8 : ARG BASE=x",
            "Step 2/8 : FROM ${BASE} AS packages",
        ];
        let base = at("no such host", &first);
        assert!(base.contains("--base IMAGE") && base.contains("heddle image pull python:"));
        let full = at("write /layer.tar: no space left on device", &first);
        assert!(full.contains("docker system df"));
        let run = "Step 5/8 : RUN pip";
        let refused = "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]";
        assert!(at("returned 1", &[run, refused]).contains("--ca-file FILE"));
        assert_eq!(at("returned 1", &[run, "No matching distribution"]), "");
    }

    #[test]
    fn an_image_that_is_missing_is_made_and_fetched_only_where_it_may_be_in_a_registry() {
        assert_eq!(how_to_get(&own_name()), "heddle image build");
        assert_eq!(how_to_get("mine:1"), "heddle image build --tag mine:1");
        let both = how_to_get("registry.example/mine");
        assert!(both.starts_with("heddle image build --tag registry.example/mine "));
        assert!(both.contains("heddle image pull registry.example/mine"));
    }

    #[test]
    fn the_base_that_is_named_is_the_base_of_the_containerfile() {
        assert!(CONTAINERFILE.contains(&format!("ARG BASE={BASE}\n")));
    }
}

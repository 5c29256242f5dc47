//! The Python of an image, asked about packages: in a container of its own, outside of any kernel, with a network and
//! with the packages' folder to write in. No code runs there but the image's own.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error as DockerError;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use nix::unistd::Uid;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::Reach;
use super::image::has_bridge;
use super::init;
use super::launcher::{Container, Folder};
use super::owner;
use super::shown::Shown;
use crate::kernel::launcher::{Grants, Launch};
use crate::kernel::packages::{
    DRIVER, ELSEWHERE, Interpreter, Packages, PackagesError, Progress, SETTINGS, Said, collect,
};
use crate::kernel::python;

/// Where certificates are inside.
const CERTIFICATES: &str = "/run/heddle-certificates.pem";
/// Variables with a file of certificates that this machine trusts, and where systems keep theirs.
const TRUSTED_BY: &[&str] = &[
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
];
const TRUSTED: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];
/// Variables that lead to the network.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

const MEMORY: u64 = 4 << 30;
/// Bytes on the way from the engine to who reads them.
const PIPE: usize = 64 << 10;

/// The Python of an image.
struct Errands(Container);

impl fmt::Debug for Errands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Errands").field(&self.0.image.name).finish()
    }
}

impl Container {
    /// The packages that a project keeps for the Python of this image; without a project those of the user.
    pub(super) async fn packages_for(
        &self,
        project: Option<&Path>,
    ) -> Result<Packages, PackagesError> {
        let errands = Errands(self.reached_by(Reach::Sockets));
        let tag = errands.tag().await?;
        Packages::at(project, &tag, std::sync::Arc::new(errands))
    }
}

impl Errands {
    /// What compiled modules of this Python are for. An image does not change, so it is asked once.
    async fn tag(&self) -> Result<String, PackagesError> {
        let Container { image, python, .. } = &self.0;
        let key = format!("{} {python:?}", image.id);
        let cache = python::cache_folder()
            .map(|folder| folder.join(format!("image-{}.json", python::short_hash(&key))));
        let known = cache.as_ref().and_then(|cache| {
            let text = std::fs::read_to_string(cache).ok()?;
            let (of, tag): (String, String) = serde_json::from_str(&text).ok()?;
            (of == key && python::is_tag(&tag)).then_some(tag)
        });
        if let Some(tag) = known {
            return Ok(tag);
        }
        let folder = tempfile::tempdir().map_err(|source| PackagesError::Folder {
            path: std::env::temp_dir(),
            source,
        })?;
        let said = self
            .run_in(&["tag".into()], folder.path(), &mut |_| {})
            .await?;
        let tag: String = serde_json::from_str(&said.stdout).unwrap_or_default();
        if !said.done || !python::is_tag(&tag) {
            let last = said.stderr.trim().lines().last().unwrap_or_default();
            return Err(PackagesError::NoPython(format!(
                "the Python of the image {} does not answer: {last}",
                image.name
            )));
        }
        if let Some(cache) = cache {
            python::remember(&cache, &(key, &tag));
        }
        Ok(tag)
    }

    async fn run_in(
        &self,
        args: &[String],
        folder: &Path,
        line: Progress<'_>,
    ) -> Result<Said, PackagesError> {
        let container = &self.0;
        let failed = |error: DockerError| {
            let refused = container.refused(&error);
            PackagesError::NoPython(refused.to_string())
        };
        let mut folders = vec![Folder {
            outside: folder.to_path_buf(),
            inside: folder.to_path_buf(),
            writable: true,
        }];
        let mut env = settings(folder);
        if let Some(outside) = certificates() {
            env.push(("PIP_CERT".into(), CERTIFICATES.into()));
            folders.push(Folder {
                outside,
                inside: CERTIFICATES.into(),
                writable: false,
            });
        }
        let mut argv: Vec<String> = ["python3", "-I", "-c", DRIVER].map(str::to_owned).into();
        argv.extend_from_slice(args);
        let launch = Launch {
            argv,
            env,
            cwd: folder.to_path_buf(),
            program: Vec::new(),
            grants: Grants {
                network: true,
                memory: MEMORY,
                ..Grants::default()
            },
            folder: PathBuf::new(),
        };
        // What is written belongs to who runs Heddle.
        let user = match Uid::effective().is_root() {
            true => "0:0".to_owned(),
            false => container.user().0,
        };
        let name = format!("heddle-packages-{}", Uuid::new_v4().simple());
        // Whoever waits at a terminal may stop Heddle meanwhile, and nobody else watches it.
        let init = init::arguments(&name, None, "");
        let mut body = container.body(&launch, &folders, &[], &Shown::nothing(), user, init);
        let engine = &container.engine;
        if !has_bridge(engine).await
            && let Some(host) = &mut body.host_config
        {
            host.network_mode = Some("host".into());
        }
        let docker = &engine.docker;
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        docker
            .create_container(Some(options), body)
            .await
            .map_err(failed)?;
        let attach = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .build();
        let attached = docker
            .attach_container(&name, Some(attach))
            .await
            .map_err(failed)?;
        let until = WaitContainerOptionsBuilder::default().condition("next-exit");
        let mut exit = docker.wait_container(&name, Some(until.build()));
        let exit =
            async { Ok(matches!(exit.next().await, Some(Ok(exit)) if exit.status_code == 0)) };
        let start = docker.start_container(&name, None);
        // The input is the lifeline: dropped, it ends the container.
        let AttachContainerResults { mut output, input } = attached;
        let (mut out, out_read) = tokio::io::duplex(PIPE);
        let (mut err, err_read) = tokio::io::duplex(PIPE);
        let pump = async move {
            let _input = input;
            while let Some(Ok(chunk)) = output.next().await {
                // Who reads the other ends goes on to their end.
                let _ = match chunk {
                    LogOutput::StdErr { message } => err.write_all(&message).await,
                    chunk => out.write_all(chunk.as_ref()).await,
                };
            }
            Ok(())
        };
        let mut silent = |_: &str| {};
        let ran = tokio::try_join!(
            exit,
            start,
            pump,
            async { Ok(collect(out_read, line).await) },
            async { Ok(collect(err_read, &mut silent).await) },
        );
        match ran {
            Ok((done, (), (), stdout, stderr)) => Ok(Said {
                done,
                stdout,
                stderr,
            }),
            Err(error) => {
                owner::remove(engine, &[name]).await;
                Err(failed(error))
            }
        }
    }
}

impl Interpreter for Errands {
    fn run<'a>(
        &'a self,
        args: &'a [String],
        folder: &'a Path,
        line: Progress<'a>,
    ) -> BoxFuture<'a, Result<Said, PackagesError>> {
        Box::pin(self.run_in(args, folder, line))
    }
}

/// The environment of pip inside: its settings of this machine, without those that name places of it.
fn settings(folder: &Path) -> Vec<(OsString, OsString)> {
    let passes = |name: &str| {
        let proxy = PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy));
        let file = [
            "PIP_CERT",
            "PIP_CLIENT_CERT",
            "PIP_CONFIG_FILE",
            "PIP_CACHE_DIR",
            "PIP_LOG",
        ];
        proxy || name.starts_with("PIP_") && !file.contains(&name) && !ELSEWHERE.contains(&name)
    };
    let mut env: Vec<(OsString, OsString)> = vec![("PIP_RETRIES".into(), "1".into())];
    env.extend(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passes)));
    env.extend(
        SETTINGS
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    env.push(("PIP_NO_CACHE_DIR".into(), "1".into()));
    // Large wheels have no room in the container's own temporary folder, which is memory.
    env.push(("TMPDIR".into(), folder.into()));
    env
}

/// The certificates that this machine trusts.
fn certificates() -> Option<PathBuf> {
    let named = TRUSTED_BY.iter().filter_map(std::env::var_os);
    let system = TRUSTED.iter().map(OsString::from);
    let system = system.filter(|_| cfg!(target_os = "linux"));
    let found = named.chain(system).find(|path| Path::new(path).is_file())?;
    std::fs::canonicalize(found).ok()
}

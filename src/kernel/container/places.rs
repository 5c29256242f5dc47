//! Where a container engine may listen: what the environment names, else the sockets that engines use by default.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::EngineProblem;
use super::problem::NamedBy;

/// Everything outside Heddle that decides where an engine is looked for.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `DOCKER_HOST`, where it is not empty.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`, where it is not empty.
    pub docker_context: Option<String>,
    /// Whether `DOCKER_TLS_VERIFY` is set, and not empty.
    pub docker_tls_verify: bool,
    /// The folder of Docker's client: `DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// Sockets that engines use by default, in the order in which they are preferred.
    pub sockets: Vec<PathBuf>,
    /// `docker` or `podman` on PATH.
    pub client: Option<PathBuf>,
    /// Whether this is Linux under Windows (WSL).
    pub wsl: bool,
    /// Whether this is a container already.
    pub in_container: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Surroundings {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let of_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = text("XDG_RUNTIME_DIR").map(PathBuf::from);
        let of_runtime = |path: &str| runtime.as_ref().map(|runtime| runtime.join(path));
        let sockets = [
            Some(PathBuf::from("/var/run/docker.sock")),
            of_runtime("docker.sock"),
            of_home(".docker/run/docker.sock"),
            of_home(".docker/desktop/docker.sock"),
            of_runtime("podman/podman.sock"),
            Some(PathBuf::from("/run/podman/podman.sock")),
        ];
        Surroundings {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_tls_verify: text("DOCKER_TLS_VERIFY").is_some(),
            docker_config: text("DOCKER_CONFIG")
                .map(PathBuf::from)
                .or_else(|| of_home(".docker")),
            sockets: sockets.into_iter().flatten().collect(),
            client: ["docker", "podman"].into_iter().find_map(on_path),
            wsl: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .is_ok_and(|release| release.to_ascii_lowercase().contains("microsoft")),
            in_container: ["/.dockerenv", "/run/.containerenv"]
                .iter()
                .any(|mark| Path::new(mark).exists()),
        }
    }

    /// What is wrong with the settings of Docker's client, which may name another engine than the default one. They are
    /// passed over then, as that client does, and this is for people.
    pub fn fault(&self) -> Option<String> {
        let decides = self.docker_host.is_none() && self.docker_context.is_none();
        let config = self.docker_config.as_deref().filter(|_| decides)?;
        let reason = current_context(config).err()?;
        Some(format!(
            "{} is passed over, so that the docker context that it may name is not used: {reason}",
            config.join(CONFIG).display()
        ))
    }

    /// The sockets to try, in this order.
    ///
    /// # Errors
    /// What the environment names cannot be used: it names another machine, or nothing that is there.
    pub(super) fn places(&self) -> Result<Vec<Place>, EngineProblem> {
        if let Some(host) = &self.docker_host {
            return Place::named(NamedBy::Host, host).map(|place| vec![place]);
        }
        let config = self.docker_config.as_deref();
        let by = match &self.docker_context {
            Some(name) => Some((name.clone(), NamedBy::ContextVariable(name.clone()))),
            None => config
                .and_then(|config| current_context(config).ok().flatten())
                .map(|name| (name.clone(), NamedBy::Context(name))),
        };
        match by.filter(|(name, _)| name != "default") {
            Some((name, by)) => match config.and_then(|config| host_of_context(config, &name)) {
                Some(Ok(host)) => Place::named(by, &host).map(|place| vec![place]),
                Some(Err(reason)) => Err(EngineProblem::BadContext { by, reason }),
                None => Err(EngineProblem::NoContext { by }),
            },
            // Without a name of an engine, Docker's client means this one then.
            None if self.docker_tls_verify => {
                Place::named(NamedBy::TlsVariable, "tcp://localhost:2376").map(|place| vec![place])
            }
            None => Ok(self
                .sockets
                .iter()
                .map(|socket| Place {
                    socket: socket.clone(),
                    named_by: None,
                })
                .collect()),
        }
    }
}

/// A socket at which an engine may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) socket: PathBuf,
    /// Who says that it is there; none for a default.
    pub(super) named_by: Option<NamedBy>,
}

impl Place {
    fn named(by: NamedBy, address: &str) -> Result<Place, EngineProblem> {
        let address = address.trim();
        match address.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Place {
                socket: path.into(),
                named_by: Some(by),
            }),
            Some(("tcp" | "ssh" | "http" | "https", _)) => Err(EngineProblem::Remote {
                by,
                // Without user name and password, should there be one.
                address: without_user(address),
            }),
            _ => Err(EngineProblem::BadAddress {
                by,
                address: without_user(address),
            }),
        }
    }
}

fn without_user(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address.to_owned(),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// The settings of Docker's client.
const CONFIG: &str = "config.json";

/// The context that `docker context use` has chosen; an error says why the settings cannot be read.
fn current_context(config: &Path) -> Result<Option<String>, String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext", default)]
        current_context: String,
    }
    let Some(text) = read_if_there(&config.join(CONFIG))? else {
        return Ok(None);
    };
    let config: Config = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(Some(config.current_context).filter(|name| !name.is_empty()))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The address in a context's file, which Docker's client names by the hash of the context's name; none where there is
/// no such context, and an error says why it cannot be read.
fn host_of_context(config: &Path, name: &str) -> Option<Result<String, String>> {
    let folder: String = Sha256::digest(name)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = config.join("contexts/meta").join(folder).join("meta.json");
    let text = read_if_there(&file).transpose()?;
    let host = text.and_then(|text| {
        let meta: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let host = meta.pointer("/Endpoints/docker/Host");
        let host = host.and_then(serde_json::Value::as_str);
        host.map(str::to_owned)
            .ok_or_else(|| "it names no engine".to_owned())
    });
    Some(host.map_err(|reason| format!("{}: {reason}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> Result<Vec<Place>, EngineProblem> {
        Surroundings {
            docker_host: Some(host.into()),
            ..Surroundings::default()
        }
        .places()
    }

    #[test]
    fn an_engine_on_another_machine_is_refused_without_showing_a_password() {
        for address in ["tcp://u:secret@build:2375", "ssh://u:secret@build"] {
            let problem = host(address).unwrap_err();
            assert!(
                matches!(problem, EngineProblem::Remote { .. }),
                "{problem:?}"
            );
            assert!(!format!("{problem} {problem:?}").contains("secret"));
        }
        assert!(matches!(
            host("docker.sock").unwrap_err(),
            EngineProblem::BadAddress { .. }
        ));
    }

    #[test]
    fn docker_host_wins_over_context_and_defaults() {
        let surroundings = Surroundings {
            docker_host: Some("unix:///a.sock".into()),
            docker_context: Some("other".into()),
            sockets: vec!["/b.sock".into()],
            ..Surroundings::default()
        };
        let places = surroundings.places().unwrap();
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].socket, Path::new("/a.sock"));
    }

    #[test]
    fn a_context_is_read_from_the_files_of_dockers_client() {
        let config = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = config.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("config.json", r#"{"currentContext": "desktop-linux"}"#);
        let surroundings = Surroundings {
            docker_config: Some(config.path().into()),
            ..Surroundings::default()
        };
        assert_eq!(
            surroundings.places(),
            Err(EngineProblem::NoContext {
                by: NamedBy::Context("desktop-linux".into())
            })
        );
        // The folder is the SHA-256 of the name.
        write(
            "contexts/meta/fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e/meta.json",
            r#"{"Name": "desktop-linux", "Endpoints": {"docker": {"Host": "unix:///home/u/.docker/desktop/docker.sock"}}}"#,
        );
        assert_eq!(
            surroundings.places().unwrap()[0].socket,
            Path::new("/home/u/.docker/desktop/docker.sock")
        );
    }

    #[test]
    fn what_is_advised_undoes_what_has_named_the_engine() {
        let config = tempfile::tempdir().unwrap();
        std::fs::write(config.path().join(CONFIG), r#"{"currentContext": "gone"}"#).unwrap();
        let of_config = Surroundings {
            docker_config: Some(config.path().into()),
            docker_tls_verify: true,
            ..Surroundings::default()
        };
        let of_variable = Surroundings {
            docker_context: Some("gone".into()),
            ..of_config.clone()
        };
        let of_host = Surroundings {
            docker_host: Some("tcp://build:2375".into()),
            ..of_variable.clone()
        };
        let of_tls = Surroundings {
            docker_config: None,
            ..of_config.clone()
        };
        for (surroundings, expected) in [
            (of_host, "unset DOCKER_HOST "),
            (of_variable, "unset DOCKER_CONTEXT "),
            (of_config, "docker context use default"),
            (of_tls, "unset DOCKER_TLS_VERIFY "),
        ] {
            let remedy = surroundings.places().unwrap_err().remedy();
            assert!(remedy.contains(expected), "{remedy}");
        }
    }

    #[test]
    fn settings_of_dockers_client_that_cannot_be_read_are_told_of() {
        let config = tempfile::tempdir().unwrap();
        let surroundings = Surroundings {
            docker_config: Some(config.path().into()),
            sockets: vec!["/b.sock".into()],
            ..Surroundings::default()
        };
        assert_eq!(surroundings.fault(), None);
        let file = config.path().join(CONFIG);
        std::fs::write(&file, r#"{"auths": {}}"#).unwrap();
        assert_eq!(surroundings.fault(), None);
        std::fs::write(&file, "{").unwrap();
        let fault = surroundings.fault().unwrap();
        assert!(
            fault.contains("config.json") && fault.contains("EOF"),
            "{fault}"
        );
        assert_eq!(surroundings.places().unwrap().len(), 1);
        // A folder cannot be read by root either.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(surroundings.fault().is_some());
        // It does not decide where the environment names an engine.
        let named = Surroundings {
            docker_host: Some("unix:///a.sock".into()),
            ..surroundings
        };
        assert_eq!(named.fault(), None);
    }

    #[test]
    fn the_default_context_means_the_default_sockets() {
        let surroundings = Surroundings {
            docker_context: Some("default".into()),
            sockets: vec!["/var/run/docker.sock".into()],
            ..Surroundings::default()
        };
        assert_eq!(surroundings.places().unwrap()[0].named_by, None);
    }
}

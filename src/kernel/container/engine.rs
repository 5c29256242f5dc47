//! Finding the container engine of this machine, quickly, and what kind it is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::places::Place;
use super::{EngineProblem, Surroundings};

/// How long an engine may take to say that it is one and has the image, where it is only one of several choices.
pub const QUICK: Duration = Duration::from_millis(300);
/// The same where the container mode was asked for by name: a busy machine is worth the wait.
pub const PATIENT: Duration = Duration::from_secs(5);

/// How long an engine that has answered may take for any one request, except builds and pulls.
const REQUEST: u64 = 60;
/// The longest answer to the first question that is read; Docker's has about a kilobyte.
const ANSWER: u64 = 64 * 1024;

/// Whose engine it is, which decides who the user inside a container must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker, as a service of root: a uid inside is the same uid outside.
    Docker,
    /// Docker as the user's own process: root inside is the user outside.
    RootlessDocker,
    /// Podman as a service of root.
    Podman,
    /// Podman as the user's own process: `keep-id` maps the user to itself.
    RootlessPodman,
}

impl Kind {
    /// A name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Docker => "Docker",
            Kind::RootlessDocker => "rootless Docker",
            Kind::Podman => "Podman",
            Kind::RootlessPodman => "rootless Podman",
        }
    }
}

/// An engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    /// A client that speaks the newest API version that both sides know.
    pub docker: Docker,
    /// Where it listens.
    pub socket: PathBuf,
    pub kind: Kind,
    /// Its own version, such as `20.10.24`.
    pub version: String,
    /// The API version that is spoken with it, such as `1.41`.
    pub api: String,
    /// The system it says it runs on, such as `Docker Desktop`.
    pub system: String,
    /// Whether files need an SELinux label to be shared with a container.
    pub selinux: bool,
}

impl Engine {
    /// Whether its containers run in a virtual machine, where Unix sockets of this machine may not reach.
    pub fn in_virtual_machine(&self) -> bool {
        cfg!(not(target_os = "linux")) || self.system == "Docker Desktop"
    }
}

/// Finds the engine that Docker's own client would use, else one at a default socket. All sockets are asked at once,
/// and the first in the order of preference that answers within `patience` is taken.
///
/// # Errors
/// The one reason that helps most. It costs `patience` at most.
pub async fn find(
    surroundings: &Surroundings,
    patience: Duration,
) -> Result<Engine, EngineProblem> {
    let mut attempts: FuturesOrdered<_> = surroundings
        .places()?
        .into_iter()
        .map(|place| attempt(place, patience))
        .collect();
    let mut worst: Option<EngineProblem> = None;
    while let Some(attempt) = attempts.next().await {
        let problem = match attempt {
            Ok(engine) => return Ok(engine),
            Err(None) => continue,
            Err(Some(problem)) => problem,
        };
        if worst
            .as_ref()
            .is_none_or(|worst| problem.weight() > worst.weight())
        {
            worst = Some(problem);
        }
    }
    Err(worst.unwrap_or_else(|| match surroundings {
        Surroundings { wsl: true, .. } => EngineProblem::NoIntegration,
        Surroundings {
            in_container: true, ..
        } => EngineProblem::InContainer,
        Surroundings {
            client: Some(client),
            ..
        } => EngineProblem::NotRunning {
            client: client.clone(),
        },
        _ => EngineProblem::NotInstalled,
    }))
}

/// The answer to `GET /version`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    version: String,
    api_version: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

/// The engine at a place; no problem where nothing is at a default place.
async fn attempt(place: Place, patience: Duration) -> Result<Engine, Option<EngineProblem>> {
    let socket = place.socket.clone();
    let connected = async {
        let (socket, about) = ask(place).await?;
        Ok(connect(&socket, about).await?)
    };
    tokio::time::timeout(patience, connected)
        .await
        .unwrap_or(Err(Some(EngineProblem::NoAnswer { socket, patience })))
}

/// Asks whoever listens at a place who they are.
async fn ask(place: Place) -> Result<(PathBuf, About), Option<EngineProblem>> {
    let Place { socket, named_by } = place;
    let error = match version(&socket).await {
        Ok(about) => return Ok((socket, about)),
        Err(error) => error,
    };
    Err(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            named_by.map(|by| EngineProblem::Nowhere { by, socket })
        }
        io::ErrorKind::ConnectionRefused => Some(EngineProblem::Stopped { socket }),
        // In a folder that cannot be looked into, nothing may be.
        io::ErrorKind::PermissionDenied if !socket.exists() && named_by.is_none() => None,
        io::ErrorKind::PermissionDenied => Some(no_permission(socket)),
        _ => Some(EngineProblem::NotAnEngine {
            socket,
            reason: error.to_string(),
        }),
    })
}

async fn version(socket: &Path) -> io::Result<About> {
    get(socket, "/version").await
}

/// What only Podman's answer to `GET /info` has.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OfPodman {
    rootless: bool,
}

/// Asks without a version in the address, which every engine answers: an older one refuses the addresses of a newer
/// API, and a newer one those of an older.
async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> io::Result<T> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    let body = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(&[][..], |end| &answer[end + 4..]);
    serde_json::from_slice(body)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it gives no version"))
}

/// Whose socket it is that we may not open.
fn no_permission(socket: PathBuf) -> EngineProblem {
    use nix::unistd::{Gid, Group, Uid, User};
    use std::os::unix::fs::MetadataExt;
    let gid = std::fs::metadata(&socket).map(|meta| Gid::from_raw(meta.gid()));
    let group = gid.ok().and_then(|gid| Group::from_gid(gid).ok().flatten());
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let member = match (&group, user) {
        (Some(group), Some(user)) => group.mem.contains(&user.name),
        _ => false,
    };
    EngineProblem::NoPermission {
        socket,
        group: group.map_or_else(|| "root".into(), |group| group.name),
        member,
    }
}

async fn connect(socket: &Path, about: About) -> Result<Engine, EngineProblem> {
    let not_an_engine = |reason: String| EngineProblem::NotAnEngine {
        socket: socket.to_path_buf(),
        reason,
    };
    let docker = client(socket, &about.api_version).map_err(not_an_engine)?;
    let api = docker.client_version();
    let info = docker
        .info()
        .await
        .map_err(|error| not_an_engine(error.to_string()))?;
    let os = info.os_type.unwrap_or_else(|| "linux".into());
    if os != "linux" {
        return Err(EngineProblem::NotLinux {
            socket: socket.to_path_buf(),
            os,
        });
    }
    let security = info.security_options.unwrap_or_default();
    let has = |name: &str| {
        let named = format!("name={name}");
        security
            .iter()
            .any(|option| option.split(',').any(|part| part == named || part == name))
    };
    if has("userns") {
        return Err(EngineProblem::Remapped {
            socket: socket.to_path_buf(),
        });
    }
    let podman = about
        .components
        .iter()
        .any(|component| component.name.starts_with("Podman"));
    let rootless = has("rootless")
        || podman
            && get::<OfPodman>(socket, "/info")
                .await
                .is_ok_and(|podman| podman.rootless);
    Ok(Engine {
        kind: match (podman, rootless) {
            (false, false) => Kind::Docker,
            (false, true) => Kind::RootlessDocker,
            (true, false) => Kind::Podman,
            (true, true) => Kind::RootlessPodman,
        },
        docker,
        socket: socket.to_path_buf(),
        version: about.version,
        api: format!("{}.{}", api.major_version, api.minor_version),
        system: info.operating_system.unwrap_or_default(),
        selinux: has("selinux"),
    })
}

/// A client of an engine that speaks this version of the API, or an older one.
pub(super) fn client(socket: &Path, api: &str) -> Result<Docker, String> {
    let api = api_version(api).ok_or("its API version cannot be read")?;
    Docker::connect_with_unix(&socket.to_string_lossy(), REQUEST, &api)
        .map_err(|error| error.to_string())
}

/// The newest version that both sides know.
fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    let theirs = (major.parse::<usize>().ok()?, minor.parse::<usize>().ok()?);
    let ours = (
        API_DEFAULT_VERSION.major_version,
        API_DEFAULT_VERSION.minor_version,
    );
    let (major_version, minor_version) = theirs.min(ours);
    Some(ClientVersion {
        major_version,
        minor_version,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use tokio::net::UnixListener;

    use super::super::fake::{Fake, INFO, VERSION};
    use super::*;

    fn at(sockets: &[&Path]) -> Surroundings {
        Surroundings {
            sockets: sockets.iter().map(|path| path.to_path_buf()).collect(),
            ..Surroundings::default()
        }
    }

    #[tokio::test]
    async fn without_any_socket_the_reason_is_what_else_is_known() {
        let problem = find(&at(&[Path::new("/none.sock")]), QUICK).await;
        assert_eq!(problem.unwrap_err(), EngineProblem::NotInstalled);
        for (surroundings, expected) in [
            (
                Surroundings {
                    client: Some("/usr/bin/podman".into()),
                    ..Surroundings::default()
                },
                EngineProblem::NotRunning {
                    client: "/usr/bin/podman".into(),
                },
            ),
            (
                Surroundings {
                    wsl: true,
                    ..Surroundings::default()
                },
                EngineProblem::NoIntegration,
            ),
            (
                Surroundings {
                    in_container: true,
                    ..Surroundings::default()
                },
                EngineProblem::InContainer,
            ),
        ] {
            assert_eq!(find(&surroundings, QUICK).await.unwrap_err(), expected);
        }
    }

    #[tokio::test]
    async fn a_named_socket_that_is_not_there_is_said_with_its_name() {
        let surroundings = Surroundings {
            docker_host: Some("unix:///none.sock".into()),
            ..Surroundings::default()
        };
        let problem = find(&surroundings, QUICK).await.unwrap_err();
        assert!(problem.to_string().contains("DOCKER_HOST") && problem.remedy().contains("unset"));
    }

    #[tokio::test]
    async fn an_engine_that_hangs_costs_its_time_once_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a.sock"), folder.path().join("b.sock")];
        let _listeners: Vec<UnixListener> = paths
            .iter()
            .map(|path| UnixListener::bind(path).unwrap())
            .collect();
        let started = Instant::now();
        let problem = find(&at(&[&paths[0], &paths[1]]), QUICK).await.unwrap_err();
        assert!(matches!(problem, EngineProblem::NoAnswer { .. }));
        // Far less than the engine itself is given, however busy the machine is.
        assert!(started.elapsed() < 10 * QUICK);
    }

    #[tokio::test]
    async fn an_engine_that_says_no_more_than_its_version_costs_no_more() {
        let half = Fake::start(&[VERSION]);
        let whole = Fake::start(&[VERSION, INFO]);
        let started = Instant::now();
        let problem = find(&half.surroundings(), QUICK).await.unwrap_err();
        assert!(matches!(problem, EngineProblem::NoAnswer { .. }));
        // Far less than the engine itself is given, however busy the machine is.
        assert!(started.elapsed() < 10 * QUICK);
        let sockets = [half.socket(), whole.socket()];
        let found = find(&at(&[&sockets[0], &sockets[1]]), QUICK).await.unwrap();
        assert_eq!(found.socket, sockets[1]);
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_a_stopped_engine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let problem = find(&at(&[&path]), QUICK).await.unwrap_err();
        assert_eq!(problem, EngineProblem::Stopped { socket: path });
    }

    #[tokio::test]
    async fn what_is_no_engine_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").await;
            }
        });
        let problem = find(&at(&[&path]), QUICK).await.unwrap_err();
        assert!(matches!(problem, EngineProblem::NotAnEngine { .. }));
    }

    #[tokio::test]
    async fn a_forbidden_socket_names_its_group() {
        if nix::unistd::Uid::effective().is_root() {
            // Root may open any socket; the message for others is what can be looked at.
            let problem = no_permission("/".into());
            assert!(problem.to_string().contains("group root"), "{problem}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        let problem = find(&at(&[&path]), QUICK).await.unwrap_err();
        assert!(matches!(problem, EngineProblem::NoPermission { .. }));
    }

    #[test]
    fn the_older_api_is_spoken() {
        let version = |text| {
            let version = api_version(text).unwrap();
            (version.major_version, version.minor_version)
        };
        assert_eq!(version("1.41"), (1, 41));
        assert_eq!(
            version("9.99"),
            (
                API_DEFAULT_VERSION.major_version,
                API_DEFAULT_VERSION.minor_version
            )
        );
        assert!(api_version("new").is_none());
    }
}

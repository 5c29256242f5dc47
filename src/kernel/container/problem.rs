//! Why no container engine can be used, each with what to do about it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What has named an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `DOCKER_HOST`.
    Host,
    /// The context of this name, which `DOCKER_CONTEXT` names.
    ContextVariable(String),
    /// The context of this name, which the settings of Docker's client name.
    Context(String),
    /// `DOCKER_TLS_VERIFY`, without a name beside it.
    TlsVariable,
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamedBy::Host => f.write_str("DOCKER_HOST"),
            NamedBy::ContextVariable(name) => {
                write!(
                    f,
                    "the docker context {name:?}, which DOCKER_CONTEXT names,"
                )
            }
            NamedBy::Context(name) => write!(f, "the docker context {name:?}"),
            NamedBy::TlsVariable => f.write_str("DOCKER_TLS_VERIFY without DOCKER_HOST"),
        }
    }
}

impl NamedBy {
    /// What to type so that it names none.
    fn undone(&self) -> &'static str {
        match self {
            NamedBy::Host => "unset DOCKER_HOST    (then the engine of this machine is used)",
            NamedBy::ContextVariable(_) => {
                "unset DOCKER_CONTEXT    (or set it to one that docker context ls shows)"
            }
            NamedBy::Context(_) => "docker context use default    (the engine of this machine)",
            NamedBy::TlsVariable => {
                "unset DOCKER_TLS_VERIFY    (then the engine of this machine is used)"
            }
        }
    }
}

/// Whether an engine's words mean that its disk is full.
pub(super) fn is_full(words: &str) -> bool {
    words
        .to_ascii_lowercase()
        .contains("no space left on device")
}

/// What to do about it.
pub(super) const MAKE_ROOM: &str = "The disk of the container engine is full. To see what takes it: docker system df. \
                                    To remove what is not used: docker system prune";

/// Why there is no engine for the container mode. The message says what was found; [`remedy`](Self::remedy) what to
/// type next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineProblem {
    #[error(
        "no container engine is installed: no docker and no podman on PATH, and no engine's socket"
    )]
    NotInstalled,
    #[error("{} is installed, but no engine is running here: none of its sockets exists", client.display())]
    NotRunning { client: PathBuf },
    /// A socket is left of an engine that has ended.
    #[error("the container engine has stopped: nobody listens at {}", socket.display())]
    Stopped { socket: PathBuf },
    /// The socket may not be opened. `group` is the socket's; `member` says that the user is in it by now, but not
    /// this login.
    #[error("there is a container engine, but you may not use it: {} belongs to the group {group}", socket.display())]
    NoPermission {
        socket: PathBuf,
        group: String,
        member: bool,
    },
    #[error("the container engine at {} does not answer ({} ms)", socket.display(), patience.as_millis())]
    NoAnswer { socket: PathBuf, patience: Duration },
    #[error("what listens at {} is no container engine: {reason}", socket.display())]
    NotAnEngine { socket: PathBuf, reason: String },
    #[error("{by} is chosen, but does not exist")]
    NoContext { by: NamedBy },
    #[error("{by} is chosen, but cannot be read: {reason}")]
    BadContext { by: NamedBy, reason: String },
    #[error("{by} points to {}, where nothing is", socket.display())]
    Nowhere { by: NamedBy, socket: PathBuf },
    #[error("{by} is {address:?}, which is not the address of an engine's socket (unix:///PATH)")]
    BadAddress { by: NamedBy, address: String },
    /// An engine that is reached by network cannot mount the working directory.
    #[error(
        "{by} points to {address}, an engine that is reached over a network: it may not see the files of this machine, \
         so the working directory cannot be mounted"
    )]
    Remote { by: NamedBy, address: String },
    /// WSL 2 without Docker Desktop's integration.
    #[error(
        "this is Linux under Windows (WSL), and no container engine is connected to this distribution"
    )]
    NoIntegration,
    /// Containers in a container need the outer engine's socket.
    #[error("Heddle itself runs in a container, and no engine's socket is mounted into it")]
    InContainer,
    #[error("the container engine at {} runs {os} containers; the kernel needs Linux ones", socket.display())]
    NotLinux { socket: PathBuf, os: String },
    /// Files of the workspace would belong to users that the host does not know.
    #[error(
        "the container engine at {} maps all users (userns-remap), so a container cannot write your files as you",
        socket.display()
    )]
    Remapped { socket: PathBuf },
}

impl EngineProblem {
    /// What to type, or to do, to get an engine.
    pub fn remedy(&self) -> String {
        let start = if cfg!(target_os = "macos") {
            "open -a Docker"
        } else {
            "sudo systemctl start docker"
        };
        match self {
            EngineProblem::NotInstalled if cfg!(target_os = "macos") => {
                "brew install --cask docker, then start Docker".into()
            }
            EngineProblem::NotInstalled => {
                "sudo apt install docker.io    (or see https://docs.docker.com/engine/install)".into()
            }
            EngineProblem::NotRunning { client } if client.ends_with("podman") => {
                "systemctl --user enable --now podman.socket".into()
            }
            EngineProblem::NotRunning { .. } | EngineProblem::Stopped { .. } => start.into(),
            EngineProblem::NoPermission { member: true, .. } => {
                "log out and in again: you are in the group by now, but this login is older".into()
            }
            EngineProblem::NoPermission { group, .. } if group == "root" => {
                "dockerd-rootless-setuptool.sh install    (an engine of your own)".into()
            }
            EngineProblem::NoPermission { group, .. } => format!(
                "sudo usermod -aG {group} \"$USER\", then log in again    (who is in that group can become root; an \
                 engine of your own is the safer way: dockerd-rootless-setuptool.sh install)"
            ),
            EngineProblem::NoAnswer { .. } => "docker info    (shows whether it still starts, or hangs)".into(),
            EngineProblem::NotAnEngine { .. } => "unset DOCKER_HOST, or point it to an engine's socket".into(),
            EngineProblem::NoContext {
                by: NamedBy::Context(_),
            } => "docker context ls, then docker context use default".into(),
            EngineProblem::NoContext { by }
            | EngineProblem::BadContext { by, .. }
            | EngineProblem::Nowhere { by, .. }
            | EngineProblem::BadAddress { by, .. }
            | EngineProblem::Remote { by, .. } => by.undone().into(),
            EngineProblem::NoIntegration => {
                "in Docker Desktop: Settings, Resources, WSL integration, turn this distribution on; or an engine of \
                 its own: sudo apt install docker.io && sudo service docker start"
                    .into()
            }
            EngineProblem::InContainer => {
                "start this container with -v /var/run/docker.sock:/var/run/docker.sock    (code that gets at that socket is root \
                 on the machine outside; the sandbox needs none)"
                    .into()
            }
            EngineProblem::NotLinux { .. } => "in Docker Desktop: Switch to Linux containers".into(),
            EngineProblem::Remapped { .. } => {
                "use rootless Docker instead: dockerd-rootless-setuptool.sh install".into()
            }
        }
    }

    /// Whether an engine may have containers all the same.
    pub fn may_have_containers(&self) -> bool {
        matches!(
            self,
            EngineProblem::Stopped { .. } | EngineProblem::NoAnswer { .. }
        )
    }

    /// Of several failures the one that says most: an engine that is nearly there before one that is not.
    pub(super) fn weight(&self) -> u8 {
        match self {
            EngineProblem::Remapped { .. } | EngineProblem::NotLinux { .. } => 5,
            EngineProblem::NoPermission { .. } => 4,
            EngineProblem::NoAnswer { .. } => 3,
            EngineProblem::NotAnEngine { .. } => 2,
            EngineProblem::Stopped { .. } => 1,
            _ => 0,
        }
    }
}

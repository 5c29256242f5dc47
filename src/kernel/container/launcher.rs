//! Starting a kernel in a container of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::container::AttachContainerResults;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptionsBuilder};
use futures_util::future::BoxFuture;
use nix::unistd::{AccessFlags, Gid, Uid};
use uuid::Uuid;

use super::image::{Image, has_bridge, how_to_get};
use super::init::{self, SILENCE};
use super::keeper::Duties;
use super::lent;
use super::owner::{self, Owner};
use super::problem::{MAKE_ROOM, is_full};
use super::relay;
use super::running::{Keeper, Made, Running};
use super::shown::{self, Shown};
use super::{Engine, Kind, Reach};
use crate::isolation::resolve::{Opened, ResolveError, Resolver};
use crate::isolation::{Access, HOME, Kept, STRANGER};
use crate::kernel::launcher::{Launch, Launcher, Process};
use crate::kernel::packages::{Packages, PackagesError};
use crate::kernel::{Choice, KernelError};

/// Where the run folder is inside.
const FOLDER: &str = "/run/heddle";

const START: &str = include_str!("start.sh");
/// What the Python inside runs first.
const FILTERED: &str = include_str!("start.py");

/// Runs kernels in containers of one engine, from one image.
#[derive(Clone)]
pub struct Container {
    pub(super) engine: Engine,
    pub(super) image: Image,
    /// The Python inside, by name or path, where a person or the image has named one.
    pub(super) python: Option<String>,
    /// The heddle binary, executed again as the keeper.
    keeper: PathBuf,
    /// Whether connections go through the container's standard streams, because no socket crosses its border.
    relayed: bool,
}

impl Container {
    /// With this very program as the keeper, which must be the heddle binary.
    ///
    /// # Errors
    /// [`KernelError::Launch`] where the program cannot be found.
    pub fn new(
        engine: Engine,
        image: Image,
        python: Option<String>,
    ) -> Result<Container, KernelError> {
        let keeper = std::env::current_exe().map_err(|error| {
            KernelError::Launch(format!("cannot find the heddle binary: {error}"))
        })?;
        Ok(Container::with(engine, image, python, keeper))
    }

    /// With another heddle binary as the keeper.
    pub fn with(
        engine: Engine,
        image: Image,
        python: Option<String>,
        keeper: PathBuf,
    ) -> Container {
        Container {
            python: python.or_else(|| image.python.clone()),
            engine,
            image,
            keeper,
            relayed: false,
        }
    }

    /// The same, with kernels that are reached in this way.
    pub fn reached_by(&self, reach: Reach) -> Container {
        Container {
            relayed: reach == Reach::Streams,
            ..self.clone()
        }
    }

    async fn start(&self, launch: Launch) -> Result<Box<dyn Process>, KernelError> {
        if launch.grants.network && !has_bridge(&self.engine).await {
            return Err(self.no_network());
        }
        let name = format!("heddle-{}", Uuid::new_v4().simple());
        let (user, stranger) = self.user();
        let plan = self.relayed.then(|| relay::Plan::of(&launch.folder));
        let plan = plan.transpose().map_err(|error| {
            KernelError::Launch(format!("its connection file cannot be used: {error}"))
        })?;
        let resolver = launch.grants.resolver(&launch.cwd);
        let open = |path: &Path, writable| Ok((resolver.open_held(path)?, writable));
        let failed = |error: ResolveError| KernelError::Launch(error.to_string());
        let mounts = launch.grants.mounts.iter();
        let opened: Result<Vec<_>, _> = std::iter::once(open(&launch.cwd, true))
            .chain(mounts.map(|mount| open(&mount.path, mount.writable)))
            .collect();
        let mut opened = opened.map_err(failed)?;
        let project = launch.grants.project.as_ref();
        if let Some(project) = project {
            opened.push((resolver.open(&project.path).map_err(failed)?, false));
        }
        let written = opened.iter().filter(|(_, writable)| *writable);
        let written: Vec<PathBuf> = written.map(|(opened, _)| opened.path.clone()).collect();
        let mut kept =
            Kept::find(&written, launch.grants.git_config).map_err(KernelError::Launch)?;
        for (folder, _) in opened.iter().filter(|(_, writable)| !writable) {
            kept.settings_of(&folder.path)
                .map_err(KernelError::Launch)?;
        }
        let opened = with_kept(opened, &kept, &resolver).map_err(failed)?;
        let launch = Launch {
            // Without links, as it is inside.
            cwd: written.into_iter().next().unwrap_or(launch.cwd),
            ..launch
        };
        let mut folders = folders(&opened, stranger.is_some(), &name);
        let hidden = self.hidden(&kept, &launch.folder)?;
        let shown = Shown::of(opened.iter().map(|(opened, _)| opened), self.relayed);
        let duties = Duties {
            marks: shown.marks(),
            socket: self.engine.socket.clone(),
            api: self.engine.api.clone(),
            container: name.clone(),
            folder: launch.folder.clone(),
            stranger,
            shares_folder: !self.relayed,
            lent: opened.iter().map(|(opened, _)| opened.granted()).collect(),
            exposed: resolver.writable().to_vec(),
        };
        if !self.relayed {
            folders.push(Folder {
                outside: launch.folder.clone(),
                inside: FOLDER.into(),
                writable: true,
            });
        }
        let (mut keeper, lifeline) = Keeper::start(&self.keeper, &duties).await?;
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let carried = if self.relayed { FOLDER } else { "" };
        let init = init::arguments(&name, Some(SILENCE), carried);
        let body = self.body(&launch, &folders, &hidden, &shown, user, init);
        let docker = &self.engine.docker;
        // Whatever fails from here on, the keeper clears up.
        docker
            .create_container(Some(options), body)
            .await
            .map_err(|error| self.refused(&error))?;
        let attach = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdout(true)
            .stderr(true)
            .build();
        let (attached, lifeline) = tokio::join!(
            docker.attach_container(&name, Some(attach)),
            keeper.attach(lifeline, plan)
        );
        let AttachContainerResults { output, .. } =
            attached.map_err(|error| self.refused(&error))?;
        let running = Running::follow(Made {
            engine: self.engine.clone(),
            name: name.clone(),
            image: self.image.name.clone(),
            output,
            keeper,
            lifeline: lifeline?,
            folder: launch.folder,
            memory: launch.grants.memory,
            marks: shown.marks(),
            closes: stranger.is_some() && !self.relayed,
        });
        docker
            .start_container(&name, None)
            .await
            .map_err(|error| self.refused(&error))?;
        Ok(Box::new(running))
    }

    /// The user inside, as the engine takes it, and its number where Heddle's own, root's, will not do.
    pub(super) fn user(&self) -> (String, Option<u32>) {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        match self.engine.kind {
            // The user outside is root inside, without any capability.
            Kind::RootlessDocker => ("0:0".into(), None),
            _ if uid.is_root() => (format!("{STRANGER}:{STRANGER}"), Some(STRANGER)),
            _ => (format!("{uid}:{gid}"), None),
        }
    }

    /// What has nothing in its place inside: an empty file, or where none of ours can be mounted the device, which takes
    /// what is written to it.
    fn hidden(&self, kept: &Kept, folder: &Path) -> Result<Vec<Folder>, KernelError> {
        let nothing = match self.relayed {
            true => PathBuf::from("/dev/null"),
            false => folder.join("empty"),
        };
        let settings: Vec<&PathBuf> = kept.shown(Access::Empty).collect();
        if !settings.is_empty() && !self.relayed {
            std::fs::write(&nothing, "").map_err(|source| KernelError::Folder {
                path: nothing.clone(),
                source,
            })?;
        }
        let hidden = settings.into_iter().map(|path| Folder {
            outside: nothing.clone(),
            inside: path.clone(),
            writable: false,
        });
        Ok(hidden.collect())
    }

    pub(super) fn body(
        &self,
        launch: &Launch,
        folders: &[Folder],
        hidden: &[Folder],
        shown: &Shown,
        user: String,
        init: [String; 4],
    ) -> ContainerCreateBody {
        let grants = &launch.grants;
        let (uid, gid) = user.split_once(':').unwrap_or(("0", "0"));
        let size = grants.memory / 2;
        // Podman gives such a folder to root always; nobody else is in the container to be kept out.
        let owner = match self.engine.kind {
            Kind::Podman | Kind::RootlessPodman => "mode=1777".to_owned(),
            Kind::Docker | Kind::RootlessDocker => format!("mode=0700,uid={uid},gid={gid}"),
        };
        let home = format!("rw,nosuid,nodev,size={size},{owner}");
        let temporary = format!("rw,nosuid,nodev,size={size},mode=1777");
        let mut env: Vec<String> = vec![format!("HOME={HOME}")];
        env.extend(["USER=heddle", "LOGNAME=heddle"].map(str::to_owned));
        env.extend(launch.env.iter().map(|(name, value)| {
            format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
        }));
        // A directory that Heddle cannot write to itself need not be writable inside.
        let writable = nix::unistd::access(&launch.cwd, AccessFlags::W_OK).is_ok();
        let mut command = vec!["/bin/sh".into(), "-c".into(), START.into(), "heddle".into()];
        command.push(self.image.name.clone());
        command.push(self.python.clone().unwrap_or_default());
        command.push(if writable { "writable" } else { "" }.into());
        command.push(init::PROGRAM.into());
        command.extend(init);
        command.extend([FILTERED.into(), filter(), shown.to_argument()]);
        command.extend(launch.argv.iter().skip(1).cloned());
        let mut temporary = HashMap::from([("/tmp".into(), temporary), (HOME.into(), home)]);
        if self.relayed {
            let sockets = format!("rw,nosuid,nodev,noexec,size=64k,{owner}");
            temporary.insert(FOLDER.into(), sockets);
        }
        // Of what is hidden in a project, the folders that lead to what is granted in it are all that is seen.
        let project = grants.project.as_ref();
        let hidden_in_project = project.and_then(|project| project.hidden.as_ref());
        if let Some(path) = hidden_in_project.filter(|path| path.is_dir()) {
            let empty = "ro,nosuid,nodev,noexec,size=64k,mode=0755".to_owned();
            temporary.insert(path.to_string_lossy().into_owned(), empty);
        }
        // A folder of the host's that is mounted there, such as a workspace that is /tmp itself, takes its place.
        temporary.retain(|path, _| {
            !folders
                .iter()
                .any(|folder| folder.inside == Path::new(path))
        });
        let limit = |number: u64| i64::try_from(number).ok();
        ContainerCreateBody {
            image: Some(self.image.id.clone()),
            // The image's own entrypoint may want to be root, and change users.
            entrypoint: Some(command),
            cmd: Some(Vec::new()),
            user: Some(user),
            hostname: Some("heddle".into()),
            env: Some(env),
            working_dir: Some(launch.cwd.to_string_lossy().into_owned()),
            // The same as the mode `none`, without the detour over the engine that sets up what nobody uses: it saves
            // a tenth of a second of each start.
            network_disabled: Some(!grants.network),
            // The lifeline: standard input ends with the one connection to it.
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            labels: Some(HashMap::from([(
                owner::LABEL.to_owned(),
                Owner::here().as_str().to_owned(),
            )])),
            host_config: Some(HostConfig {
                auto_remove: Some(true),
                // The first process is Heddle's own.
                init: Some(false),
                network_mode: (!grants.network).then(|| "none".into()),
                cap_drop: Some(vec!["ALL".into()]),
                security_opt: Some(vec!["no-new-privileges".into()]),
                readonly_rootfs: Some(true),
                userns_mode: (self.engine.kind == Kind::RootlessPodman).then(|| "keep-id".into()),
                ipc_mode: Some("private".into()),
                tmpfs: Some(temporary),
                shm_size: limit(size),
                memory: limit(grants.memory),
                // The sum with swap: so there is none.
                memory_swap: limit(grants.memory),
                pids_limit: limit(grants.processes),
                nano_cpus: (grants.cpus > 0.0).then_some((grants.cpus * 1e9) as i64),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".into()),
                    config: None,
                }),
                // With SELinux what is shared must carry a label, which this older form alone can ask for.
                binds: self
                    .engine
                    .selinux
                    .then(|| folders.iter().map(Folder::to_bind).collect()),
                mounts: Some(
                    folders
                        .iter()
                        .filter(|_| !self.engine.selinux)
                        .map(Folder::to_mount)
                        .chain(hidden.iter().map(Folder::to_mount))
                        .collect(),
                ),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// The engine would start it without one, and say nothing.
    fn no_network(&self) -> KernelError {
        KernelError::Launch(format!(
            "it is to have a network (execution_service.network), but the container engine at {} has none to give: it \
             has no bridge. Use --mode sandbox, or set execution_service.network = false, or start the engine without \
             --bridge=none",
            self.engine.socket.display()
        ))
    }

    pub(super) fn refused(&self, error: &DockerError) -> KernelError {
        let name = &self.image.name;
        KernelError::Launch(match error {
            DockerError::DockerResponseServerError {
                status_code: 404,
                message,
            } if message.contains("image") => format!(
                "the image {name} is not on this machine any more. Next: {}",
                how_to_get(name)
            ),
            DockerError::DockerResponseServerError { message, .. }
                if message.contains("bind source path does not exist") =>
            {
                "the container engine does not see the files of this machine: it runs on another one, or Heddle itself \
                 runs in a container. Use --mode sandbox"
                    .into()
            }
            DockerError::DockerResponseServerError { message, .. }
                if message.contains("/bin/sh") =>
            {
                format!(
                    "the image {name} has no shell, so it cannot be used. Make one that can: heddle image build"
                )
            }
            DockerError::DockerResponseServerError { message, .. } if is_full(message) => {
                format!("the container engine refuses it: {message}\n{MAKE_ROOM}")
            }
            DockerError::DockerResponseServerError { message, .. } => {
                format!(
                    "the container engine refuses it: {message}\nTo see what the engine can do: docker info; without \
                     one: --mode sandbox"
                )
            }
            error => format!(
                "the container engine at {} is gone or does not answer: {error}. Try: docker info",
                self.engine.socket.display()
            ),
        })
    }
}

/// The filter of system calls that a sandbox has too, in hexadecimal digits. Elsewhere the engine runs in a virtual
/// machine of its own, and its filter must do.
fn filter() -> String {
    #[cfg(target_os = "linux")]
    let program = crate::isolation::filter_program();
    #[cfg(not(target_os = "linux"))]
    let program: Vec<u8> = Vec::new();
    program.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Launcher for Container {
    fn mode(&self) -> &'static str {
        "container"
    }

    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Process>, KernelError>> {
        Box::pin(self.start(launch))
    }

    fn waits_for(&self) -> String {
        format!("the container engine at {}", self.engine.socket.display())
    }

    fn inside(&self, _: &Path) -> PathBuf {
        FOLDER.into()
    }

    fn shows_surely(&self, path: &Path) -> bool {
        !shown::cannot_be_compared(path, self.relayed)
    }

    fn packages<'a>(
        &'a self,
        project: Option<&'a Path>,
    ) -> Option<BoxFuture<'a, Result<Packages, PackagesError>>> {
        Some(Box::pin(self.packages_for(project)))
    }

    fn choice(&self) -> Option<Choice> {
        Some(Choice::InImage {
            image: self.image.name.clone(),
            packages: self.image.packages.clone().unwrap_or_default(),
        })
    }
}

/// The user's folders that are mounted, with what in them can be read and no more, or not be moved.
fn with_kept(
    mut opened: Vec<(Opened, bool)>,
    kept: &Kept,
    resolver: &Resolver,
) -> Result<Vec<(Opened, bool)>, ResolveError> {
    let is_kept = |path: &Path| kept.paths.iter().any(|(kept, _)| kept == path);
    opened.retain(|(opened, writable)| *writable || !is_kept(&opened.path));
    for (access, writable) in [(Access::InPlace, true), (Access::ReadOnly, false)] {
        for path in kept.shown(access) {
            opened.push((resolver.open(path)?, writable));
        }
    }
    Ok(opened)
}

/// As the engine mounts them. Where Heddle is root they are lent to the user inside: mounted elsewhere first, through a
/// map of owners.
fn folders(opened: &[(Opened, bool)], is_lent: bool, name: &str) -> Vec<Folder> {
    let folder = |(number, (opened, writable)): (usize, &(Opened, bool))| Folder {
        outside: match is_lent {
            true => lent::place(name, number),
            false => opened.path.clone(),
        },
        inside: opened.path.clone(),
        writable: *writable,
    };
    opened.iter().enumerate().map(folder).collect()
}

/// A folder or file of the host's inside.
pub(super) struct Folder {
    pub(super) outside: PathBuf,
    pub(super) inside: PathBuf,
    pub(super) writable: bool,
}

impl Folder {
    fn to_mount(&self) -> Mount {
        Mount {
            source: Some(self.outside.to_string_lossy().into_owned()),
            target: Some(self.inside.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(!self.writable),
            ..Mount::default()
        }
    }

    fn to_bind(&self) -> String {
        format!(
            "{}:{}:{},z",
            self.outside.display(),
            self.inside.display(),
            if self.writable { "rw" } else { "ro" }
        )
    }
}

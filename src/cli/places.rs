//! Which of the machine's files a kernel is never given.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// Folders that are the system's, or the kernel's own, inside.
const SYSTEM: &[&str] = &[
    "/", "/bin", "/boot", "/etc", "/lib", "/lib64", "/run", "/sbin", "/usr", "/var",
];
/// Folders of which nothing is given either.
const MACHINE: &[&str] = &["/dev", "/proc", "/sys"];
/// Where engines listen; whoever can talk to one is root, or the user whose it is.
const ENGINES: &[&str] = &[
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
];

/// The user's home folder.
pub fn home() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.home_dir().to_path_buf())
}

/// Where the user's settings are.
fn settings_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.config_dir().join("heddle"))
}

/// Why this path, without links in it, is not given to a kernel.
pub fn refusal(path: &Path) -> Option<String> {
    if let Some(place) = secret(path) {
        return Some(format!(
            "{place} is never given to a kernel: keys and settings are kept there. Copy what it needs to another folder"
        ));
    }
    if SYSTEM.iter().any(|system| path == Path::new(system))
        || MACHINE.iter().any(|machine| path.starts_with(machine))
    {
        return Some(format!(
            "{} is the system's, of which a kernel has its own. Name a folder with data",
            path.display()
        ));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{}", Uid::effective()));
    let own = runtime
        .into_iter()
        .chain([usual])
        .flat_map(|folder| ["docker.sock", "podman/podman.sock"].map(|name| folder.join(name)));
    let named = std::env::var("DOCKER_HOST").ok();
    let named = named.and_then(|host| Some(PathBuf::from(host.strip_prefix("unix://")?)));
    let own = own.chain(named);
    let engines = ENGINES.iter().map(PathBuf::from).chain(own);
    let inside = |socket: PathBuf| socket.canonicalize().is_ok_and(|it| it.starts_with(path));
    engines.into_iter().any(inside).then(|| {
        format!(
            "the socket of a container engine is in {}, and who can talk to it can do everything on this machine",
            path.display()
        )
    })
}

/// Why an environment of Python, or an installation, is not shown to code, though it may lie in a hidden folder of a home.
pub fn refusal_of_python(path: &Path) -> Option<String> {
    const ENVIRONMENTS: [&str; 2] = ["pyvenv.cfg", "conda-meta"];
    let is_environment = || ENVIRONMENTS.iter().any(|mark| path.join(mark).exists());
    let holds_more = |home: PathBuf| {
        let hidden = path
            .strip_prefix(&home)
            .is_ok_and(|inside| inside.components().count() == 1)
            && path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        home.starts_with(path) || hidden && !is_environment()
    };
    if homes(path).into_iter().any(holds_more) {
        return Some(format!(
            "{} has a Python in it, and keys and settings too. Install Python in a folder of its own",
            path.display()
        ));
    }
    let own = crate::folders::all().filter_map(|folder| folder.canonicalize().ok());
    if let Some(own) = own.into_iter().find(|own| own.starts_with(path)) {
        return Some(format!(
            "{} is Heddle's, and never given to a kernel",
            own.display()
        ));
    }
    let is_system = SYSTEM.iter().any(|system| path == Path::new(system)) && path != Path::new("/");
    let is_hidden = secret(path).is_some();
    match is_system || is_hidden {
        // What a kernel has anyway, and what was looked at above.
        true => None,
        false => refusal(path),
    }
}

/// Places that hold keys: the whole of a home, what is hidden in one, and Heddle's settings.
pub fn secret(path: &Path) -> Option<String> {
    for home in homes(path) {
        if home.starts_with(path) {
            return Some(format!("{}, which holds a home,", path.display()));
        }
        let inside = path.strip_prefix(&home).ok();
        let first = inside.and_then(|inside| inside.components().next());
        if let Some(first) = first.map(|first| first.as_os_str())
            && first.as_encoded_bytes().starts_with(b".")
        {
            return Some(home.join(first).display().to_string());
        }
    }
    let settings = settings_folder()?.canonicalize().ok()?;
    let holds = settings.starts_with(path) || path.starts_with(&settings);
    holds.then(|| settings.display().to_string())
}

/// Homes that the path may be in: the user's by its variable and by the list of users, that of who became root, and
/// that of the path's owner.
fn homes(path: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let before = std::env::var("SUDO_UID").ok();
    let before = before.and_then(|uid| uid.parse().ok());
    let owner = std::fs::metadata(path).ok().map(|meta| meta.uid());
    let users = [Some(Uid::effective().as_raw()), before, owner].into_iter();
    let listed = users.flatten().filter_map(|uid| {
        let user = User::from_uid(Uid::from_raw(uid)).ok()??;
        Some(user.dir)
    });
    let all = home().into_iter().chain(listed);
    let all = all.filter_map(|home| home.canonicalize().ok());
    // Programs that are users live in the root, or where everybody's programs are.
    let mut all: Vec<PathBuf> = all
        .filter(|home| !SYSTEM.iter().any(|system| home == Path::new(system)))
        .collect();
    all.sort();
    all.dedup();
    all
}

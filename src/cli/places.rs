//! Which of the machine's files a kernel is never given.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::kernel::{folder_roots, is_own_name};
use crate::{folders, way};

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

/// The absolute path without links.
///
/// # Errors
/// Which link lies below one of these `folders`, where code may have put it, and where it leads.
pub fn unlinked<'a>(
    path: &Path,
    folders: impl Iterator<Item = &'a PathBuf>,
) -> Result<PathBuf, String> {
    let way = way::follow(path);
    let folders: Vec<PathBuf> = folders.map(|folder| way::follow(folder).end).collect();
    let inside = |link: &Path| folders.iter().any(|folder| link.starts_with(folder));
    match way.links.iter().find(|(link, _)| inside(link)) {
        Some((link, target)) => Err(format!(
            "{} leads through the link {} to {}, and code could have put that there",
            path.display(),
            link.display(),
            target.display()
        )),
        None => Ok(way.end),
    }
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
    if let Some(reason) = own(path) {
        return Some(reason);
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

/// What of Heddle's own folders, for settings, data, state, cache and run files, is in this path, or has this path in it.
/// Links on the way to them count: who can replace one says where they are.
pub fn own(path: &Path) -> Option<String> {
    let kept = folders::all().find(|own| {
        let way = way::follow(own);
        let holds = |place: &Path| place.starts_with(path);
        way.links.iter().any(|(link, _)| holds(link))
            || holds(&way.end)
            || path.starts_with(&way.end)
    });
    let running = || {
        let roots = folder_roots().into_iter();
        let mut roots = roots.map(|root| way::follow(&root).end);
        roots.find(|root| {
            let below = path.strip_prefix(root).ok();
            let first = below.and_then(|below| below.components().next());
            let name = first.and_then(|first| first.as_os_str().to_str());
            root.starts_with(path) || name.is_some_and(is_own_name)
        })
    };
    let place = kept.or_else(running)?;
    Some(format!(
        "{} is never given to a kernel: Heddle keeps files of its own there, which decide what happens next. Name another \
         folder",
        place.display()
    ))
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

/// Places that hold keys: the whole of a home, and what is hidden in one.
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
    None
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

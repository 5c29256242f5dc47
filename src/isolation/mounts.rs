//! The private root of a sandbox: an empty file system into which only what is needed is bound.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, chown, pivot_root};

use super::kept::is_settings;
use super::sandbox::{Identity, RUN_FOLDER, Sandbox};
use super::{HOME, STRANGER};

/// Where the host's root is while the private one is built.
const HOST: &str = "/host";

/// What stands in the place of settings.
const EMPTY: &str = "/.empty";

/// As many links as the machine itself follows on one path.
const LINKS: usize = 40;

/// System folders, as they are on the host: folders are bound, links are made again.
pub(super) const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
];
/// What programs read below /etc. No password file, no keys, no host names.
pub(super) const ETC: &[&str] = &[
    "alternatives",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "ssl",
    "pki",
    "ca-certificates",
    "timezone",
];
/// With the network, also how names are looked up.
const ETC_NETWORK: &[&str] = &["resolv.conf", "hosts", "services", "protocols"];
pub(super) const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// Builds the root and moves this process into it. The host's is unmounted.
///
/// # Errors
/// Which step the machine refuses.
pub(super) fn private_root(
    sandbox: &Sandbox,
    run_folder: &Path,
    identity: Identity,
) -> Result<(), String> {
    let owner = match identity {
        Identity::Same => (Uid::effective(), Gid::effective()),
        Identity::Stranger => (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER)),
    };
    let root = Root {
        sandbox,
        owner,
        identity,
    };
    root.pivot()
        .map_err(|error| format!("no private root: {error}"))?;
    root.system()
        .map_err(|error| format!("the system cannot be bound: {error}"))?;
    root.private()
        .map_err(|error| format!("no private file systems: {error}"))?;
    // The outer first: what is read-only stays so within a folder that can be written, such as the program's own
    // environment in the workspace.
    let read = sandbox.read.iter().map(|path| (path.as_path(), false));
    let write = sandbox.write.iter().map(|path| (path.as_path(), true));
    let mut paths: Vec<_> = read.chain(write).collect();
    paths.sort();
    for (path, writable) in paths {
        match writable {
            true => root.hand_over(path),
            false => root.show(path),
        }
        .map_err(|error| format!("{} cannot be bound: {error}", path.display()))?;
    }
    fs::write(EMPTY, "").map_err(|error| format!("no empty file: {error}"))?;
    for path in &sandbox.keep.paths {
        let source = is_settings(path).then_some(Path::new(EMPTY));
        keep(path, source)
            .map_err(|error| format!("{} cannot be kept: {error}", path.display()))?;
    }
    root.give(run_folder)
        .map_err(|error| format!("{} cannot be given: {error}", run_folder.display()))?;
    root.seal()
        .map_err(|error| format!("the root cannot be sealed: {error}"))
}

struct Root<'a> {
    sandbox: &'a Sandbox,
    owner: (Uid, Gid),
    identity: Identity,
}

impl Root<'_> {
    /// Makes an empty root the root. The host's stays below [`HOST`] for now.
    fn pivot(&self) -> io::Result<()> {
        // Nothing that is mounted here is to be seen outside.
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        self.tmpfs("/tmp", "mode=0755,size=1m", MsFlags::empty())?;
        fs::create_dir(format!("/tmp{HOST}"))?;
        pivot_root("/tmp", &*format!("/tmp{HOST}"))?;
        std::env::set_current_dir("/")
    }

    fn system(&self) -> io::Result<()> {
        for path in SYSTEM {
            match fs::read_link(host(path)) {
                Ok(target) => {
                    parents(Path::new(path))?;
                    symlink(target, path)?;
                }
                Err(_) => self.bind_if_there(Path::new(path))?,
            }
        }
        let network: &[&str] = if self.sandbox.network {
            ETC_NETWORK
        } else {
            &[]
        };
        for name in ETC.iter().chain(network) {
            self.bind_if_there(&Path::new("/etc").join(name))?;
        }
        let (uid, gid) = self.owner;
        fs::create_dir_all("/etc")?;
        fs::write(
            "/etc/passwd",
            format!("heddle:x:{uid}:{gid}::{HOME}:/bin/sh\n"),
        )?;
        fs::write("/etc/group", format!("heddle:x:{gid}:\n"))?;
        if !self.sandbox.network {
            fs::write("/etc/hosts", "127.0.0.1 localhost heddle\n")?;
        }
        Ok(())
    }

    /// File systems that are the sandbox's own: devices, processes, temporary files, the home.
    fn private(&self) -> io::Result<()> {
        self.tmpfs("/dev", "mode=0755,size=64k", MsFlags::MS_NOSUID)?;
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            fs::File::create(&path)?;
            bind(&host(&path), &path)?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            symlink(target, Path::new("/dev").join(name))?;
        }
        fs::create_dir("/dev/pts")?;
        let options = "newinstance,ptmxmode=0666,mode=0620";
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(
            Some("devpts"),
            "/dev/pts",
            Some("devpts"),
            flags,
            Some(options),
        )?;
        fs::create_dir("/proc")?;
        let flags = flags | MsFlags::MS_NODEV;
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?;
        // Settings of the whole machine; whoever owns nothing here still need not see a way in.
        for name in ["sys", "sysrq-trigger", "irq", "bus"] {
            let path = Path::new("/proc").join(name);
            if path.exists() {
                bind(&path, &path)?;
                restrict(&path, libc::MOUNT_ATTR_RDONLY)?;
            }
        }
        let (uid, gid) = self.owner;
        let half = self.sandbox.memory / 2;
        for (path, mode) in [("/tmp", "1777"), ("/dev/shm", "1777"), (HOME, "0700")] {
            fs::create_dir_all(path)?;
            let options = format!("mode={mode},size={half},nr_inodes=100k,uid={uid},gid={gid}");
            self.tmpfs(path, &options, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
        }
        Ok(())
    }

    fn tmpfs(&self, path: &str, options: &str, flags: MsFlags) -> io::Result<()> {
        fs::create_dir_all(path)?;
        Ok(mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            flags,
            Some(options),
        )?)
    }

    fn bind_if_there(&self, path: &Path) -> io::Result<()> {
        match host(path).exists() {
            true => self.bind(path, true),
            false => Ok(()),
        }
    }

    /// Binds a path of the host to the same path here.
    fn bind(&self, path: &Path, read_only: bool) -> io::Result<()> {
        let path = &follow(path)?;
        let source = host(path);
        place_for(&source, path)?;
        bind(&source, path)?;
        let read_only = if read_only {
            libc::MOUNT_ATTR_RDONLY
        } else {
            0
        };
        restrict(
            path,
            read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        )
    }

    /// Binds a folder so that the kernel's user owns what its owner owns.
    fn hand_over(&self, path: &Path) -> io::Result<()> {
        if self.identity == Identity::Same {
            return self.bind(path, false);
        }
        let path = self.map(path, 0).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::other(
                "its file system cannot lend files to another user, as is needed where Heddle is root. Work in a \
                 folder on ext4, xfs or btrfs, or start Heddle as an ordinary user",
            ),
            _ => error,
        })?;
        restrict(&path, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)
    }

    /// Binds what the kernel's user may read, as its owner may, and not change.
    fn show(&self, path: &Path) -> io::Result<()> {
        if self.identity == Identity::Same {
            return self.bind(path, true);
        }
        // Not every file system can map owners; then what is open to everybody is readable.
        let Ok(path) = self.map(path, libc::AT_RECURSIVE) else {
            return self.bind(path, true);
        };
        restrict(
            &path,
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        )
    }

    fn map(&self, path: &Path, recursive: i32) -> io::Result<PathBuf> {
        let path = follow(path)?;
        let source = host(&path);
        place_for(&source, &path)?;
        let meta = fs::metadata(&source)?;
        let owner = (meta.uid(), meta.gid());
        map_tree(&source, &path, owner, self.owner, recursive)?;
        Ok(path)
    }

    /// Binds the folder that Heddle itself made for this kernel to [`RUN_FOLDER`], and gives it away with what is in it.
    fn give(&self, path: &Path) -> io::Result<()> {
        let (source, inside) = (host(path), Path::new(RUN_FOLDER));
        if self.identity == Identity::Stranger {
            for entry in fs::read_dir(&source)? {
                chown(&entry?.path(), Some(self.owner.0), Some(self.owner.1))?;
            }
            chown(&source, Some(self.owner.0), Some(self.owner.1))?;
        }
        fs::create_dir_all(inside)?;
        bind(&source, inside)?;
        restrict(inside, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)
    }

    /// Lets go of the host and makes the root itself unchangeable.
    fn seal(&self) -> io::Result<()> {
        umount2(HOST, MntFlags::MNT_DETACH)?;
        fs::remove_dir(HOST)?;
        set_attributes(
            Path::new("/"),
            false,
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        )
    }
}

/// Makes what is in a folder that can be written to unchangeable, or `source` stand in its place. Not what somebody put a
/// link to there meanwhile.
fn keep(path: &Path, source: Option<&Path>) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)?;
    if file.metadata()?.is_symlink() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let held = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    bind(source.unwrap_or(&held), &held)?;
    restrict(path, libc::MOUNT_ATTR_RDONLY)
}

/// The host's path while its root is below [`HOST`].
fn host(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

/// The path without links. Each link on the way is made here as well, so that the path leads to the same place.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut real = PathBuf::from("/");
    let mut rest = path.to_path_buf();
    for _ in 0..LINKS {
        let mut parts = rest.components();
        let link = loop {
            match parts.next() {
                None => return Ok(real),
                Some(Component::Normal(name)) => real.push(name),
                Some(Component::ParentDir) => drop(real.pop()),
                Some(Component::RootDir) => real = PathBuf::from("/"),
                Some(Component::CurDir | Component::Prefix(_)) => {}
            }
            if let Ok(target) = fs::read_link(host(&real)) {
                break target;
            }
        };
        if fs::symlink_metadata(&real).is_err() {
            parents(&real)?;
            symlink(&link, &real)?;
        }
        real.pop();
        rest = link.join(parts.as_path());
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Makes the file or folder that `source` is to be bound to.
fn place_for(source: &Path, path: &Path) -> io::Result<()> {
    if fs::metadata(source)?.is_dir() {
        return fs::create_dir_all(path);
    }
    parents(path)?;
    match fs::File::create_new(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn parents(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    }
}

fn bind(source: &Path, path: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(
        Some(source),
        path,
        None::<&str>,
        flags,
        None::<&str>,
    )?)
}

/// Adds attributes to a mount and those below it. Unlike a remount it leaves locked ones alone.
fn restrict(path: &Path, attributes: u64) -> io::Result<()> {
    set_attributes(path, true, attributes)
}

fn set_attributes(path: &Path, recursive: bool, attributes: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    mount_setattr(libc::AT_FDCWD, &path, flags, attributes, 0)
}

fn mount_setattr(
    fd: i32,
    path: &CString,
    flags: i32,
    set: u64,
    user_namespace: u64,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace,
    };
    // SAFETY: path and attributes outlive the call, and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path.as_ptr(),
            flags as libc::c_uint,
            &attributes,
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Binds `source` to `path` through a map: what belongs to `from` on the disk belongs to `to` inside, and new files of
/// `to` belong to `from` on the disk.
pub(crate) fn bind_mapped(
    source: &Path,
    path: &Path,
    from: (u32, u32),
    to: (Uid, Gid),
) -> io::Result<()> {
    map_tree(source, path, from, to, 0)
}

/// The same; with `AT_RECURSIVE` also what is mounted below.
fn map_tree(
    source: &Path,
    path: &Path,
    from: (u32, u32),
    to: (Uid, Gid),
    recursive: i32,
) -> io::Result<()> {
    let source = CString::new(source.as_os_str().as_bytes())?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let empty = CString::default();
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive as libc::c_uint;
    // SAFETY: the path outlives the call.
    let tree =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let tree = unsafe { OwnedFd::from_raw_fd(tree as i32) };
    let map = user_namespace(from, to)?;
    let set = libc::MOUNT_ATTR_IDMAP;
    mount_setattr(
        tree.as_raw_fd(),
        &empty,
        libc::AT_EMPTY_PATH | recursive,
        set,
        map.as_raw_fd() as u64,
    )?;
    // SAFETY: both paths outlive the call.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    match moved {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A user namespace that serves as a map, held by a descriptor alone.
fn user_namespace(from: (u32, u32), to: (Uid, Gid)) -> io::Result<OwnedFd> {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{ForkResult, fork, pipe, read};

    let (ready, tell) = pipe()?;
    // SAFETY: there is one thread; the child makes system calls alone until it is killed.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok();
            let _ = nix::unistd::write(&tell, &[u8::from(made)]);
            loop {
                nix::unistd::pause();
            }
        }
    };
    drop(tell);
    let mut made = [0];
    let outcome = read(&ready, &mut made)
        .map_err(io::Error::from)
        .and_then(|_| {
            if made != [1] {
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            let process = Path::new("/proc").join(child.to_string());
            fs::write(process.join("uid_map"), format!("{} {} 1", from.0, to.0))?;
            fs::write(process.join("gid_map"), format!("{} {} 1", from.1, to.1))?;
            fs::File::open(process.join("ns/user")).map(OwnedFd::from)
        });
    // The namespace lives on in the descriptor.
    let _ = kill(child, Signal::SIGKILL);
    let _ = super::processes::wait_for(child);
    outcome
}

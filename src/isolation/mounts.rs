//! The private root of a sandbox: an empty file system into which only what is needed is bound.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, chown, pivot_root};

use super::kept::Access;
use super::resolve::{Granted, Opened, ResolveError, Resolver};
use super::sandbox::{Identity, RUN_FOLDER, Sandbox};
use super::{HOME, STRANGER};

/// Where the host's root is while the private one is built.
const HOST: &str = "/host";

/// What stands in the place of settings.
const EMPTY: &str = "/.empty";

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
        resolver: sandbox.resolver(),
    };
    root.pivot()
        .map_err(|error| format!("no private root: {error}"))?;
    root.system()
        .map_err(|error| format!("the system cannot be bound: {error}"))?;
    root.private()
        .map_err(|error| format!("no private file systems: {error}"))?;
    let open = |granted: &Granted, writable| {
        let opened = root.open(&granted.path)?.expect(granted.id)?;
        Ok::<_, ResolveError>((opened, writable))
    };
    let read = sandbox.read.iter().map(|granted| open(granted, false));
    let write = sandbox.write.iter().map(|granted| open(granted, true));
    let opened: Result<Vec<_>, _> = read.chain(write).collect();
    let opened = opened.map_err(|error| error.to_string())?;
    // The outer first: what is read-only stays so within a folder that can be written, such as the program's own
    // environment in the workspace.
    let bound = opened.iter().map(|(opened, writable)| {
        let part = match writable {
            true => Part::Write(opened),
            false => Part::Read(opened),
        };
        (opened.path.as_path(), part)
    });
    let hidden = sandbox.hide.iter();
    let hidden = hidden.map(|path| (path.as_path(), Part::Hidden));
    let mut parts: Vec<_> = bound.chain(hidden).collect();
    parts.sort_by(|(one, part), (other, too)| (one, part.order()).cmp(&(other, too.order())));
    for (path, part) in parts {
        match part {
            Part::Read(opened) => root.bind(opened, false),
            Part::Write(opened) => root.bind(opened, true),
            Part::Hidden => root.tmpfs(
                path,
                "mode=0755,size=64k",
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            ),
        }
        .map_err(|error| format!("{} cannot be bound: {error}", path.display()))?;
    }
    // Everything below them is bound by now.
    for path in &sandbox.hide {
        set_attributes(path, false, libc::MOUNT_ATTR_RDONLY)
            .map_err(|error| format!("{} cannot be hidden: {error}", path.display()))?;
    }
    fs::write(EMPTY, "").map_err(|error| format!("no empty file: {error}"))?;
    for (path, access) in &sandbox.keep.paths {
        keep(path, *access)
            .map_err(|error| format!("{} cannot be kept: {error}", path.display()))?;
    }
    root.give(run_folder)
        .map_err(|error| format!("{} cannot be given: {error}", run_folder.display()))?;
    root.seal()
        .map_err(|error| format!("the root cannot be sealed: {error}"))
}

/// What is at a path inside.
enum Part<'a> {
    Read(&'a Opened),
    Write(&'a Opened),
    Hidden,
}

impl Part<'_> {
    /// Of several at one path, the last takes the place of the others.
    fn order(&self) -> u8 {
        match self {
            Part::Read(_) => 0,
            Part::Write(_) => 1,
            Part::Hidden => 2,
        }
    }
}

struct Root<'a> {
    sandbox: &'a Sandbox,
    owner: (Uid, Gid),
    identity: Identity,
    resolver: Resolver,
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

    fn tmpfs(&self, path: impl AsRef<Path>, options: &str, flags: MsFlags) -> io::Result<()> {
        let path = path.as_ref();
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
            true => self.bind_plain(&self.open(path).map_err(io::Error::other)?, false),
            false => Ok(()),
        }
    }

    /// Opens a path of the host.
    fn open(&self, path: &Path) -> Result<Opened, ResolveError> {
        self.resolver.open_below(Path::new(HOST), path)
    }

    /// Binds what was opened of the host to the same path here, so that the kernel's user may do there what its owner
    /// may: all, or read.
    fn bind(&self, opened: &Opened, writable: bool) -> io::Result<()> {
        if self.identity == Identity::Same {
            return self.bind_plain(opened, writable);
        }
        match self.bind_mapped(opened, writable) {
            // Not every file system can map owners; then what is open to everybody is readable.
            Err(_) if !writable => self.bind_plain(opened, false),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(io::Error::other(
                "its file system cannot lend files to another user, as is needed where Heddle is root. Work in a \
                 folder on ext4, xfs or btrfs, or start Heddle as an ordinary user",
            )),
            bound => bound,
        }
    }

    /// As it is. A user sees it as outside.
    fn bind_plain(&self, opened: &Opened, writable: bool) -> io::Result<()> {
        let tree = clone_tree(&opened.file, libc::AT_RECURSIVE)?;
        self.put(opened, &tree, writable)
    }

    /// Through a map, where Heddle is root. What is mounted below is seen where it can only be read.
    fn bind_mapped(&self, opened: &Opened, writable: bool) -> io::Result<()> {
        let recursive = if writable { 0 } else { libc::AT_RECURSIVE };
        let meta = opened.metadata();
        let tree = clone_tree(&opened.file, recursive)?;
        map_owner(&tree, (meta.uid(), meta.gid()), self.owner, recursive)?;
        self.put(opened, &tree, writable)
    }

    /// Mounts a tree where the path of what was opened leads to, and makes the links on its way.
    fn put(&self, opened: &Opened, tree: &OwnedFd, writable: bool) -> io::Result<()> {
        for (link, target) in &opened.links {
            if fs::symlink_metadata(link).is_err() {
                parents(link)?;
                symlink(target, link)?;
            }
        }
        let at = place(&opened.path, opened.metadata().is_dir())?;
        let read_only = match writable {
            true => 0,
            false => libc::MOUNT_ATTR_RDONLY,
        };
        let attributes = read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        restrict_tree(tree, attributes)?;
        move_tree(tree, &at)
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

/// Keeps code from changing what is in a folder that it can write to. Not what somebody put a link to there meanwhile.
fn keep(path: &Path, access: Access) -> io::Result<()> {
    let there = open_here(path)?;
    let tree = match access {
        Access::Empty => clone_tree(&open_here(Path::new(EMPTY))?, 0)?,
        Access::ReadOnly | Access::InPlace => clone_tree(&there, libc::AT_RECURSIVE)?,
    };
    if access != Access::InPlace {
        restrict_tree(&tree, libc::MOUNT_ATTR_RDONLY)?;
    }
    move_tree(&tree, &there)
}

/// The host's path while its root is below [`HOST`].
fn host(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

/// Opens a path of the private root, in which there is no link.
fn open_here(path: &Path) -> io::Result<fs::File> {
    let opened = Resolver::new(["/"]).open(path).map_err(io::Error::other)?;
    Ok(opened.file)
}

/// Opens the file or folder that something is to be mounted on, made where it is missing. No link on the way is followed:
/// code of another kernel may have put it there.
fn place(path: &Path, is_folder: bool) -> io::Result<fs::File> {
    use nix::errno::Errno;
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::{Mode, mkdirat};

    if let Ok(there) = open_here(path) {
        return Ok(there);
    }
    let mut at = open_here(Path::new("/"))?;
    let names: Vec<_> = path.strip_prefix("/").unwrap_or(path).iter().collect();
    let open = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let already = |made: nix::Result<()>| match made {
        Err(Errno::EEXIST) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    };
    for (number, name) in names.iter().enumerate() {
        if is_folder || number + 1 < names.len() {
            already(mkdirat(&at, *name, Mode::from_bits_truncate(0o755)))?;
        } else {
            let make = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            already(openat(&at, *name, make, Mode::from_bits_truncate(0o644)).map(drop))?;
        }
        let next = fs::File::from(openat(&at, *name, open, Mode::empty())?);
        if next.metadata()?.is_symlink() {
            return Err(Errno::ELOOP.into());
        }
        at = next;
    }
    Ok(at)
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
    path: &CStr,
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

/// Binds what is open as `source` to `path` through a map: what belongs to `from` on the disk belongs to `to` inside, and
/// new files of `to` belong to `from` on the disk.
pub(crate) fn bind_mapped(
    source: impl AsFd,
    path: &Path,
    from: (u32, u32),
    to: (Uid, Gid),
) -> io::Result<()> {
    let tree = clone_tree(source, 0)?;
    map_owner(&tree, from, to, 0)?;
    move_tree(&tree, fs::File::open(path)?)
}

/// A mount of what is open that is nowhere yet; with `AT_RECURSIVE` also what is mounted below.
fn clone_tree(source: impl AsFd, recursive: i32) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | (libc::AT_EMPTY_PATH | recursive) as libc::c_uint;
    let source = source.as_fd().as_raw_fd();
    // SAFETY: the path outlives the call.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, source, c"".as_ptr(), flags) };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as i32) })
}

/// Has what belongs to `from` in a tree belong to `to`.
fn map_owner(tree: &OwnedFd, from: (u32, u32), to: (Uid, Gid), recursive: i32) -> io::Result<()> {
    let map = user_namespace(from, to)?;
    mount_setattr(
        tree.as_raw_fd(),
        c"",
        libc::AT_EMPTY_PATH | recursive,
        libc::MOUNT_ATTR_IDMAP,
        map.as_raw_fd() as u64,
    )
}

/// Adds attributes to all mounts of a tree. Unlike a remount it leaves locked ones alone.
fn restrict_tree(tree: &OwnedFd, attributes: u64) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    mount_setattr(tree.as_raw_fd(), c"", flags, attributes, 0)
}

/// Mounts a tree on what is open.
fn move_tree(tree: &OwnedFd, at: impl AsFd) -> io::Result<()> {
    let at: BorrowedFd = at.as_fd();
    // SAFETY: both paths outlive the call.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
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

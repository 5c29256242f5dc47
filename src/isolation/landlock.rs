//! Landlock: which files a sandboxed kernel may use whatever else lets it, and whom outside it may signal: nobody.
//!
//! At the upper level what is outside is not there, and this is a second wall: it keeps the folder of the sockets free
//! of files, and the host's abstract sockets out of reach of a kernel with the network. At the lower level it is the
//! only one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use nix::libc;

use super::HOME;
use super::level::Level;
use super::mounts::{DEVICES, ETC, SYSTEM};
use super::resolve::{Granted, ResolveError};
use super::sandbox::Sandbox;

/// The oldest interface that is used (Linux 6.2): before it, files outside could be emptied.
pub(super) const OLDEST: u32 = 3;
/// The interface (Linux 6.12) from which on signals and abstract sockets are kept inside.
pub(super) const SCOPES: u32 = 6;

/// Of /proc, beside what is the process's own.
const PROC: &[&str] = &[
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "sys",
    "uptime",
    "version",
];

/// The version of Landlock's interface that this machine has; 0 for none.
pub(super) fn abi() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag there is no structure to read.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Rules that are made, and wait to be enforced.
pub(super) struct Rules {
    /// `None` where the machine has no Landlock, or too old a one.
    ruleset: Option<OwnedFd>,
    /// Whether the rules are for files of the host.
    lower: bool,
}

impl Rules {
    /// Rules for a kernel in `sandbox`, whose sockets are in `run_folder`. Called where the kernel will be.
    ///
    /// # Errors
    /// What the machine refuses.
    pub(super) fn new(sandbox: &Sandbox, run_folder: &Path) -> Result<Rules, String> {
        let (abi, lower) = match sandbox.level {
            Level::Namespaces => (abi(), false),
            Level::Landlock(abi) => (abi, true),
        };
        let granted = granted(sandbox, lower).map_err(|error| error.to_string())?;
        let ruleset = match known(abi) {
            Some(abi) => ruleset(abi, lower, run_folder, &granted)
                .map_err(|error| format!("Landlock refuses its rules: {error}"))?,
            None => None,
        };
        match lower && ruleset.is_none() {
            true => Err(format!(
                "Landlock is needed, of its interface {OLDEST} or newer (Linux 6.2), and this machine has {}",
                match abi {
                    0 => "none".to_owned(),
                    abi => format!("interface {abi}"),
                }
            )),
            false => Ok(Rules { ruleset, lower }),
        }
    }

    /// Binds this process and all that it starts to the rules, for good. Called between fork and exec: nothing here
    /// allocates. Needs no-new-privileges.
    pub(super) fn enforce(&self) -> io::Result<()> {
        let Some(ruleset) = &self.ruleset else {
            return Ok(());
        };
        if self.lower {
            allow_own_process(ruleset)?;
        }
        // SAFETY: a plain system call on values.
        match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// What is handled of an interface, the newest that is known of newer ones.
fn known(abi: u32) -> Option<ABI> {
    match abi {
        ..OLDEST => None,
        3 => Some(ABI::V3),
        4 => Some(ABI::V4),
        5 => Some(ABI::V5),
        SCOPES.. => Some(ABI::V6),
    }
}

/// What the kernel was granted, opened where it will be, and whether it can write to it. At the upper level everything
/// that is there can be read.
fn granted(sandbox: &Sandbox, lower: bool) -> Result<Vec<(std::fs::File, bool)>, ResolveError> {
    let resolver = sandbox.resolver();
    let open = |granted: &Granted, writable| {
        let opened = resolver.open_granted(granted)?;
        Ok((opened.file, writable))
    };
    let read = sandbox.read.iter().filter(|_| lower);
    let write = sandbox.write.iter();
    read.map(|granted| open(granted, false))
        .chain(write.map(|granted| open(granted, true)))
        .collect()
}

fn ruleset(
    abi: ABI,
    lower: bool,
    run_folder: &Path,
    granted: &[(std::fs::File, bool)],
) -> Result<Option<OwnedFd>, RulesetError> {
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    let device = (AccessFs::from_file(abi) & !AccessFs::Execute) | AccessFs::ReadDir;
    // Sockets come and go there, and nothing else.
    let sockets: BitFlags<AccessFs> =
        AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile;

    let mut ruleset = Ruleset::default().handle_access(all)?;
    let scopes = Scope::from_all(abi);
    if !scopes.is_empty() {
        ruleset = ruleset.scope(scopes)?;
    }
    let mut write = Vec::new();
    let (visible, devices) = match lower {
        true => {
            write.extend(private_folders(run_folder));
            let proc = PROC.iter().map(|name| Path::new("/proc").join(name));
            let etc = ETC.iter().map(|name| Path::new("/etc").join(name));
            let system = SYSTEM.iter().map(PathBuf::from);
            let visible = system.chain(etc).chain(proc);
            let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name));
            (visible.collect(), devices.collect())
        }
        false => {
            write.extend(["/tmp", "/dev/shm", HOME].map(PathBuf::from));
            (vec![PathBuf::from("/")], vec![PathBuf::from("/dev")])
        }
    };
    let mut created = ruleset
        .create()?
        .add_rules(path_beneath_rules(visible, read))?
        .add_rules(path_beneath_rules::<Vec<PathBuf>, _, _>(devices, device))?
        .add_rules(path_beneath_rules(write, all))?
        .add_rules(path_beneath_rules([run_folder], sockets))?;
    let of_files = AccessFs::from_file(abi);
    for (file, writable) in granted {
        let is_folder = file.metadata().is_ok_and(|meta| meta.is_dir());
        let access = if *writable { all } else { read };
        let access = if is_folder { access } else { access & of_files };
        created = created.add_rule(PathBeneath::new(file, access))?;
    }
    Ok(created.into())
}

/// Folders of a kernel at the lower level, which has no private file systems: for temporary files, and its home.
pub fn private_folders(run_folder: &Path) -> [PathBuf; 2] {
    ["tmp", "home"].map(|name| run_folder.join(name))
}

/// Allows the folder of /proc that is about this very process. Those of its children are other folders, and closed to
/// it, as are those of all other processes.
fn allow_own_process(ruleset: &OwnedFd) -> io::Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed_access: u64,
        parent_fd: i32,
    }
    const RULE_PATH_BENEATH: u32 = 1;
    let read = AccessFs::ReadFile as u64 | AccessFs::ReadDir as u64;
    // SAFETY: the name is a C string, the rule outlives its call, and both have the types that the calls read. The
    // descriptor stays open, since the rule is lost with the last reference to the folder; it gives no access.
    unsafe {
        let parent_fd = libc::open(c"/proc/self".as_ptr(), libc::O_PATH);
        if parent_fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let rule = PathBeneath {
            allowed_access: read,
            parent_fd,
        };
        let added = libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0,
        );
        match added {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

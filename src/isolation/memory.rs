//! What a sandbox takes, where no control group counts it: the memory of its processes with what the machine keeps for
//! them, and what they write into file systems that live in memory.
//!
//! Pages of files on disks are not counted: the machine takes them back as it needs them.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

use super::level::Level;
use super::processes::{descendants, field, status};
use super::sandbox::Sandbox;
use super::sockets::Scope;
use super::supervisor::Report;
use super::{HOME, folder, landlock};

/// Bytes that may be in the folder of the sockets, which is on the host's memory.
const FOLDER: u64 = 1 << 20;
/// Bytes that a file takes of a file system in memory beside what is in it.
const INODE: u64 = 1024;

/// Bytes that the machine keeps for each area that a process has mapped, whatever is in it.
const AREA: u64 = 256;
/// Bytes that a pipe holds once its user has many. Before that they may hold more, all of them together 64 MiB
/// (`fs.pipe-user-pages-soft`).
const PIPE: u64 = 8192;
/// Files that all processes together may have open. The machine keeps something for each, and to look at many more would
/// take longer than to fill the memory.
const OPEN: usize = 100_000;

/// Private file systems of the upper level, as far as nothing of the host's is mounted over them.
const FILE_SYSTEMS: &[&str] = &["/tmp", "/dev/shm", HOME];

/// What is looked at, and how much it may be.
pub(super) struct Account {
    limit: u64,
    run_folder: PathBuf,
    /// The kernel's own folders in it, at the lower level.
    private: Vec<PathBuf>,
    /// The kernel's own file systems, at the upper level.
    file_systems: Vec<&'static Path>,
    sockets: Scope,
    /// The machine's own file system, which shared memory without a name is on, as `/proc/PID/maps` writes it.
    nameless: String,
    /// The largest extents that were seen of such memory, by its inode, for as long as somebody has some of it mapped.
    shared: HashMap<u64, u64>,
    /// Processes that could not be looked at the last time.
    closed: HashSet<Pid>,
}

impl Account {
    pub(super) fn new(sandbox: &Sandbox, run_folder: &Path) -> Account {
        Account {
            limit: sandbox.memory,
            run_folder: run_folder.to_path_buf(),
            private: match sandbox.level {
                Level::Namespaces => Vec::new(),
                Level::Landlock(_) => landlock::private_folders(run_folder).to_vec(),
            },
            file_systems: own_file_systems(sandbox),
            sockets: match sandbox.level {
                Level::Namespaces if sandbox.network => Scope::Open,
                Level::Namespaces => Scope::Namespace,
                Level::Landlock(_) => Scope::OpenUnix,
            },
            nameless: nameless(),
            shared: HashMap::new(),
            closed: HashSet::new(),
        }
    }

    /// What the descendants of this process, and what they wrote, take too much of.
    pub(super) fn excess(&mut self) -> Option<Report> {
        let processes = descendants();
        if processes.is_empty() {
            // At the least there is the kernel, living or not yet reaped.
            return Some(Report::Because(
                "was ended: its supervisor could not look at its processes any more".into(),
            ));
        }
        let Some(open) = Open::of(&processes, &self.run_folder) else {
            return Some(Report::Because(format!(
                "was ended: it had more than {OPEN} files and sockets open at once. Close those that are not needed"
            )));
        };
        let still_closed = open.closed.intersection(&self.closed).next().copied();
        if let Some(process) = still_closed
            && self.sockets != Scope::Namespace
        {
            return Some(Report::Because(format!(
                "was ended: its process {process} runs a program that cannot be read, so that its supervisor cannot see \
                 what it takes. Let code run programs that it may read"
            )));
        }
        self.closed = open.closed;

        let mut sockets = folder::size(&self.run_folder, &self.private);
        let mut files = 0_u64;
        if self.private.is_empty() {
            sockets = sockets.saturating_add(open.deleted);
            files += self.file_systems.iter().map(|path| used(path)).sum::<u64>();
        } else {
            let private = self.private.iter().map(|path| folder::size(path, &[]));
            files = private.fold(open.deleted, u64::saturating_add);
        }
        if sockets > FOLDER {
            return Some(Report::FolderFull);
        }
        if self.limit == u64::MAX {
            return None;
        }
        let (mapped, areas) = self.mapped(&processes);
        let sum = |bytes: u64, more: u64| bytes.saturating_add(more);
        let kept = [
            mapped,
            areas * AREA,
            open.pipes * PIPE,
            self.sockets.held(&open.sockets),
        ];
        let beside = kept.into_iter().fold(files, sum);
        // What is shared counts once a process in the first, which is too much, but cheap; the second walks all pages.
        let resident = processes.iter().map(|process| resident(*process));
        if resident.fold(beside, sum) <= self.limit {
            return None;
        }
        let proportional = distinct(&processes).map(proportional);
        let taken = proportional.fold(beside, sum);
        match taken > self.limit {
            true if taken - mapped > self.limit => Some(Report::OutOfMemory(self.limit)),
            true => Some(Report::Because(format!(
                "ran out of memory: it took more than {} MiB, with {} MiB of shared memory that it has mapped, which counts \
                 whether it is used or not (mmap.mmap(-1, size)). execution_service.memory allows more; a file in the \
                 working directory can be mapped instead",
                self.limit >> 20,
                mapped >> 20
            ))),
            false => None,
        }
    }

    /// Bytes of shared memory without a name, once each, and the number of areas of any memory. How much of the former is
    /// used nobody can see who has not mapped it.
    fn mapped(&mut self, processes: &[Pid]) -> (u64, u64) {
        let mut seen: HashMap<u64, u64> = HashMap::new();
        let mut areas = 0;
        for process in processes {
            let text = std::fs::read(of(*process, "maps")).unwrap_or_default();
            let lines = text.split(|byte| *byte == b'\n');
            for (inode, end) in lines
                .inspect(|_| areas += 1)
                .filter_map(|line| extent(line, &self.nameless))
            {
                let largest = seen.entry(inode).or_default();
                *largest = end.max(*largest);
            }
        }
        // Where a part is unmapped, the whole stays as long as there is another.
        for (inode, end) in &mut seen {
            *end = (*end).max(self.shared.get(inode).copied().unwrap_or(0));
        }
        self.shared = seen;
        let ends = self.shared.values();
        (ends.fold(0, |sum, end| sum.saturating_add(*end)), areas)
    }
}

/// The inode of a mapping on this device that is shared, and where in the inode it ends: of a line of
/// `/proc/PID/maps`, such as `7f00-7f40 rw-s 00000000 00:01 12 /dev/zero (deleted)`.
fn extent(line: &[u8], device: &str) -> Option<(u64, u64)> {
    // Names come last, and are no text everywhere.
    let mut fields = line
        .splitn(6, |byte| *byte == b' ')
        .map(std::str::from_utf8);
    let mut next = || fields.next()?.ok();
    let (range, permissions, offset, on, inode) = (next()?, next()?, next()?, next()?, next()?);
    if !permissions.ends_with('s') || on != device {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let length = number(end)?.checked_sub(number(start)?)?;
    Some((inode.parse().ok()?, number(offset)?.saturating_add(length)))
}

/// The device of the machine's own file system in memory, which has no name in any folder.
fn nameless() -> String {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = memfd_create(c"", MFdFlags::MFD_CLOEXEC).map(std::fs::File::from);
    let device = file
        .ok()
        .and_then(|file| file.metadata().ok())
        .map(|meta| meta.dev());
    match device {
        Some(device) => format!("{:02x}:{:02x}", libc::major(device), libc::minor(device)),
        // The first that a machine makes.
        None => "00:01".to_owned(),
    }
}

/// What the host's folders hold, such as a workspace that is `/tmp` itself, is not the kernel's. To be called before code
/// runs that could make links.
fn own_file_systems(sandbox: &Sandbox) -> Vec<&'static Path> {
    let shown = sandbox.read.iter().chain(&sandbox.write);
    let shown: Vec<PathBuf> = shown
        .filter_map(|granted| granted.path.canonicalize().ok())
        .collect();
    let own = FILE_SYSTEMS.iter().map(Path::new);
    own.filter(|path| !shown.iter().any(|above| path.starts_with(above)))
        .collect()
}

fn of(process: Pid, name: &str) -> PathBuf {
    Path::new("/proc").join(process.to_string()).join(name)
}

/// Memory of one process, with all that it shares with its relatives, and the tables that its pages are found by.
fn resident(process: Pid) -> u64 {
    let status = status(process);
    let kilobytes = |name| field(&status, name).unwrap_or(0);
    (kilobytes("RssAnon:") + kilobytes("VmSwap:") + kilobytes("VmPTE:")) * 1024
}

/// The same; what it shares with others is divided among them, where it lets itself be looked at.
fn proportional(process: Pid) -> u64 {
    let pages = std::fs::read_to_string(of(process, "smaps_rollup"));
    match pages.ok().as_deref().and_then(pss) {
        Some(pages) => pages + field(&status(process), "VmPTE:").unwrap_or(0) * 1024,
        None => resident(process),
    }
}

/// `None` where the machine's kernel is too old to tell anonymous memory from other.
fn pss(smaps_rollup: &str) -> Option<u64> {
    let anonymous = field(smaps_rollup, "Pss_Anon:")?;
    Some((anonymous + field(smaps_rollup, "SwapPss:").unwrap_or(0)) * 1024)
}

/// Processes without those that only borrow the memory of another, as a child does between `vfork` and `exec`.
fn distinct(processes: &[Pid]) -> impl Iterator<Item = Pid> {
    let borrows = |(n, process): (usize, &Pid)| {
        let mut before = processes[..n].iter();
        (!before.any(|other| same_memory(*other, *process))).then_some(*process)
    };
    processes.iter().enumerate().filter_map(borrows)
}

fn same_memory(one: Pid, other: Pid) -> bool {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: a plain system call on values. An error means that they cannot be compared.
    unsafe { libc::syscall(libc::SYS_kcmp, one.as_raw(), other.as_raw(), KCMP_VM, 0, 0) == 0 }
}

/// What processes have open.
#[derive(Default)]
struct Open {
    /// Bytes of files on a folder's file system that have lost their names.
    deleted: u64,
    /// Inodes of sockets.
    sockets: HashSet<u64>,
    pipes: u64,
    /// Processes that do not let their files be seen.
    closed: HashSet<Pid>,
}

impl Open {
    /// `None` where it is more than [`OPEN`].
    fn of(processes: &[Pid], folder: &Path) -> Option<Open> {
        let device = std::fs::metadata(folder).map(|meta| meta.dev()).ok();
        let mut open = Open::default();
        let mut seen = HashSet::new();
        let mut count = 0;
        for process in processes {
            let entries = match std::fs::read_dir(of(*process, "fd")) {
                Ok(entries) => entries,
                Err(error) => {
                    // One that is ending has no memory left, and belongs to nobody.
                    let lives = || field(&status(*process), "VmSize:").is_some();
                    if error.kind() == std::io::ErrorKind::PermissionDenied && lives() {
                        open.closed.insert(*process);
                    }
                    continue;
                }
            };
            for entry in entries.flatten() {
                count += 1;
                if count > OPEN {
                    return None;
                }
                let Ok(meta) = std::fs::metadata(entry.path()) else {
                    continue;
                };
                if !seen.insert((meta.dev(), meta.ino())) {
                    continue;
                }
                if meta.file_type().is_socket() {
                    open.sockets.insert(meta.ino());
                } else if meta.file_type().is_fifo() {
                    open.pipes += 1;
                } else if Some(meta.dev()) == device && meta.nlink() == 0 {
                    open.deleted += meta.blocks() * 512;
                }
            }
        }
        Some(open)
    }
}

fn used(path: &Path) -> u64 {
    match nix::sys::statvfs::statvfs(path) {
        Ok(stat) => {
            let files = stat.files().saturating_sub(stat.files_free());
            (stat.blocks() - stat.blocks_free()) * stat.fragment_size() + files * INODE
        }
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_proportional_size() {
        let rollup =
            "7f-7f ---p\nRss: 9 kB\nPss:     9234 kB\nPss_Anon:  1200 kB\nSwapPss: 34 kB\n";
        assert_eq!(pss(rollup), Some(1234 * 1024));
        assert_eq!(pss("Pss: 1 kB\n"), None);
    }

    #[test]
    fn sees_its_own_parent() {
        let parent = nix::unistd::getppid();
        let (exact, all) = (proportional(parent), resident(parent));
        // The machine counts in batches.
        assert!(exact > 0 && exact <= all + (1 << 20), "{exact} {all}");
    }

    #[test]
    fn finds_shared_memory_by_its_device_and_largest_extent() {
        let of = |line: &str| extent(line.as_bytes(), "00:01");
        let line = "7f0000000000-7f0000400000 rw-s 00001000 00:01 12      /dev/zero (deleted)";
        assert_eq!(of(line), Some((12, 0x401000)));
        assert_eq!(
            of("7f00-7f40 rw-p 00000000 00:01 12 /dev/zero (deleted)"),
            None
        );
        assert_eq!(
            of("7f00-7f40 rw-s 00000000 00:19 12 /dev/zero (deleted)"),
            None
        );
        assert_eq!(of("7f00-7f40 rw-p 00000000 00:00 0 "), None);

        // As this machine writes it.
        let size: usize = 3 << 20;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which is removed below.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, flags, -1, 0) };
        assert_ne!(map, libc::MAP_FAILED);
        let maps = std::fs::read("/proc/self/maps").unwrap();
        // SAFETY: nobody uses it.
        assert_eq!(unsafe { libc::munmap(map, size) }, 0);
        let device = nameless();
        let mut lines = maps.split(|byte| *byte == b'\n');
        let size = size as u64;
        assert!(lines.any(|line| extent(line, &device).is_some_and(|(_, end)| end == size)));
    }

    #[test]
    fn borrowed_memory_counts_once() {
        let (own, parent) = (nix::unistd::getpid(), nix::unistd::getppid());
        let counted: Vec<Pid> = distinct(&[own, own, parent]).collect();
        assert_eq!(counted, [own, parent]);
    }
}

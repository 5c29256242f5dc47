//! A cgroup of a kernel's own, where one may be made: limits that the machine keeps by itself and at once, for all
//! processes of a kernel together (cgroups(7)).
//!
//! [`super::memory`] watches the same everywhere, a moment late. There may be one tree with all controllers (version
//! 2), a tree a controller (version 1), or both; each controller is in one of them.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::scope;

/// What the folders' names begin with; the number of the process that made it follows.
const PREFIX: &str = "heddle-";
/// Microseconds in which a group may use its CPUs' time.
const PERIOD: f64 = 100_000.0;

/// What all processes of a kernel may take together.
pub struct Limits {
    /// Bytes; `u64::MAX` for all.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// How many may be used at a time; 0 for all.
    pub cpus: f64,
}

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Processes,
    Cpus,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Processes, Controller::Cpus];

    /// As the machine calls it.
    fn key(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Processes => "pids",
            Controller::Cpus => "cpu",
        }
    }

    /// In words for people.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Processes => "processes",
            Controller::Cpus => "CPUs",
        }
    }

    /// The files that hold the limit, with what is written to them, in order. Those after the first may be missing.
    fn settings(self, version: Version, limits: &Limits) -> Vec<(&'static str, String)> {
        let quota = (limits.cpus * PERIOD) as u64;
        match (self, version) {
            (Controller::Memory, _) if limits.memory == u64::MAX => Vec::new(),
            (Controller::Memory, Version::One) => vec![
                ("memory.limit_in_bytes", limits.memory.to_string()),
                ("memory.memsw.limit_in_bytes", limits.memory.to_string()),
            ],
            (Controller::Memory, Version::Two) => vec![
                ("memory.max", limits.memory.to_string()),
                ("memory.swap.max", "0".into()),
            ],
            (Controller::Processes, _) => vec![("pids.max", limits.processes.to_string())],
            (Controller::Cpus, _) if quota == 0 => Vec::new(),
            (Controller::Cpus, Version::One) => vec![("cpu.cfs_quota_us", quota.to_string())],
            (Controller::Cpus, Version::Two) => vec![("cpu.max", format!("{quota} {PERIOD}"))],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// One tree of cgroups.
#[derive(Debug, PartialEq)]
struct Tree {
    version: Version,
    /// Those that are on every group of a tree of version 1. In one of version 2 each group says it of those below it.
    controllers: Vec<Controller>,
    mount: PathBuf,
    /// The group that this process is in.
    here: PathBuf,
}

/// A group of a kernel's own, in each tree that has a controller to offer. What this process starts until it
/// [leaves](Self::leave) is in it.
#[derive(Default)]
pub struct Cgroup {
    controllers: Vec<Controller>,
    folders: Vec<PathBuf>,
    /// Where a process is written to that goes back to where this one was.
    exits: Vec<File>,
    events: Option<Events>,
}

/// What tells how many processes were killed for want of memory.
struct Events {
    file: File,
    /// Bytes that there are.
    limit: u64,
    /// How many there were when it was looked at last.
    seen: Cell<u64>,
    /// How many of them the kernel's own process has outlived, and is none of.
    others: Cell<u64>,
}

impl Events {
    fn count(&self) -> Option<u64> {
        let mut text = [0; 512];
        let length = self.file.read_at(&mut text, 0).ok()?;
        Some(killed(&String::from_utf8_lossy(&text[..length])))
    }
}

impl Cgroup {
    /// Makes it, with these limits, and moves this process into it. What the machine refuses is left out.
    ///
    /// The move costs a start 10 to 30 ms, in which the machine waits for all of its CPUs. For a limit of processes
    /// alone, which is kept without a group too, it is not worth that.
    pub fn enter(limits: &Limits) -> Cgroup {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut cgroup = Cgroup::default();
        if limits.memory == u64::MAX && limits.cpus == 0.0 {
            return cgroup;
        }
        for tree in trees(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup")) {
            cgroup.enter_tree(&tree, limits);
        }
        if !cgroup.controllers.contains(&Controller::Memory)
            && scope::enter(&scope::bus(), limits).is_ok()
        {
            let here = trees(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
            here.iter().for_each(|tree| cgroup.adopt(tree, limits));
        }
        cgroup
    }

    /// Counts on the limits of a group that this process was put into. It stays in there, and whoever has made the group
    /// removes it.
    fn adopt(&mut self, tree: &Tree, limits: &Limits) {
        if tree.version == Version::One {
            return;
        }
        let kept = |controller: &Controller| {
            let settings = controller.settings(tree.version, limits);
            let Some((file, value)) = settings.first() else {
                return false;
            };
            let is = std::fs::read_to_string(tree.here.join(file)).unwrap_or_default();
            is.trim() == value
        };
        let limited: Vec<Controller> = Controller::ALL.into_iter().filter(kept).collect();
        if limited.contains(&Controller::Memory) {
            self.watch_events(tree, &tree.here, limits);
        }
        self.controllers.extend(limited);
    }

    fn watch_events(&mut self, tree: &Tree, folder: &Path, limits: &Limits) {
        let events = File::open(folder.join(match tree.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        }));
        self.events = events.ok().map(|file| Events {
            file,
            limit: limits.memory,
            seen: Cell::new(0),
            others: Cell::new(0),
        });
    }

    fn enter_tree(&mut self, tree: &Tree, limits: &Limits) {
        let Some((parent, controllers)) = tree.parent() else {
            return;
        };
        sweep(&parent);
        let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
        if std::fs::create_dir(&folder).is_err() {
            return;
        }
        let limited: Vec<Controller> = controllers
            .into_iter()
            .filter(|controller| set(&folder, &controller.settings(tree.version, limits)))
            .collect();
        let exit = File::options()
            .write(true)
            .open(tree.here.join("cgroup.procs"));
        let entered = |_: &File| std::fs::write(folder.join("cgroup.procs"), "0").is_ok();
        match exit.ok().filter(|_| !limited.is_empty()).filter(entered) {
            Some(exit) => {
                if limited.contains(&Controller::Memory) {
                    self.watch_events(tree, &folder, limits);
                }
                self.controllers.extend(limited);
                self.exits.push(exit);
                self.folders.push(folder);
            }
            // An empty group, which nothing keeps.
            None => drop(std::fs::remove_dir(&folder)),
        }
    }

    /// Moves this process back, so that only those that it has started are in the group. Works where the groups' folders
    /// cannot be seen any more.
    pub fn leave(&self) {
        for mut exit in &self.exits {
            // A supervisor that has to stay takes little, and is the last that is killed for it.
            let _ = exit.write_all(b"0");
        }
    }

    /// To be called from time to time with whether the kernel's process lives, and was not killed just now. One that was
    /// killed is seen to end before the next call: what it has outlived by then were others.
    pub fn look(&self, lives: impl FnOnce() -> bool) {
        let Some(events) = &self.events else { return };
        let Some(count) = events.count() else { return };
        if events.others.get() < events.seen.get() && lives() {
            events.others.set(events.seen.get());
        }
        events.seen.set(count);
    }

    /// The limit on memory, if the kernel's process, which has ended, can have been killed because all of the group took
    /// more.
    pub fn exceeded(&self) -> Option<u64> {
        let events = self.events.as_ref()?;
        (events.count()? > events.others.get()).then_some(events.limit)
    }

    /// Removes the group, once nothing runs in it. One that stays is removed by the next that is made beside it.
    pub fn remove(&self) {
        for folder in &self.folders {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl Tree {
    /// The nearest group below which one may be made that these controllers are on. In a tree of version 2 that is none
    /// with processes in it, such as our own (cgroups(7), "no internal processes").
    fn parent(&self) -> Option<(PathBuf, Vec<Controller>)> {
        if self.version == Version::One {
            return Some((self.here.clone(), self.controllers.clone()));
        }
        self.here
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.mount))
            .find_map(|folder| {
                let text = std::fs::read_to_string(folder.join("cgroup.subtree_control")).ok()?;
                let controllers = known(text.split_whitespace());
                let offers = !controllers.is_empty() && may_write(folder);
                offers.then(|| (folder.to_path_buf(), controllers))
            })
    }
}

/// What this process could have a limit on, found by entering a group for a moment; a scope of systemd's it stays in,
/// with limits that nothing comes near.
pub fn available() -> Vec<Controller> {
    let cgroup = Cgroup::enter(&Limits {
        memory: 1 << 50,
        processes: 1 << 20,
        cpus: 1024.0,
    });
    cgroup.leave();
    cgroup.remove();
    cgroup.controllers
}

fn may_write(folder: &Path) -> bool {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}

fn known<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Controller> {
    let named: Vec<&str> = names.collect();
    let all = Controller::ALL.into_iter();
    all.filter(|one| named.contains(&one.key())).collect()
}

/// Whether there was something to set, and it is set.
fn set(folder: &Path, settings: &[(&str, String)]) -> bool {
    let mut settings = settings.iter();
    let first = settings.next();
    let done = first.is_some_and(|(file, value)| std::fs::write(folder.join(file), value).is_ok());
    for (file, value) in settings {
        // A machine without swap has no file for it.
        let _ = std::fs::write(folder.join(file), value);
    }
    done
}

/// Removes the groups of supervisors that were killed. One with processes in it cannot be removed.
fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(Ok(maker)) = maker.map(str::parse)
            && kill(Pid::from_raw(maker), None) == Err(Errno::ESRCH)
        {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5), cgroups(7)).
fn trees(mountinfo: &str, cgroup: &str) -> Vec<Tree> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            let mut fields = file_system.split(' ');
            let version = match fields.next()? {
                "cgroup" => Version::One,
                "cgroup2" => Version::Two,
                _ => return None,
            };
            let controllers = match version {
                Version::One => known(fields.nth(1)?.split(',')),
                Version::Two => Vec::new(),
            };
            if version == Version::One && controllers.is_empty() {
                return None;
            }
            let path = cgroup.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (of, path) = (fields.next()?, fields.next()?);
                let found = match version {
                    Version::One => known(of.split(',')) == controllers,
                    Version::Two => of.is_empty(),
                };
                found.then_some(path)
            })?;
            // A container may see a part of the tree only.
            let below = Path::new(path).strip_prefix(root).ok()?;
            let mount = PathBuf::from(mount);
            let here = mount.join(below);
            Some(Tree {
                version,
                controllers,
                mount,
                here,
            })
        })
        .collect()
}

fn killed(events: &str) -> u64 {
    let mut lines = events.lines();
    let count = lines.find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_group_in_either_version() {
        let one = "30 23 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                   31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                   32 23 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                   22 1 8:1 / / rw - ext4 /dev/root rw\n";
        let found = trees(one, "4:memory:/a/b\n3:cpu,cpuacct:/\n2:freezer:/x\n");
        let tree = |controller, mount: &str, here: &str| Tree {
            version: Version::One,
            controllers: vec![controller],
            mount: mount.into(),
            here: here.into(),
        };
        assert_eq!(
            found,
            [
                tree(
                    Controller::Memory,
                    "/sys/fs/cgroup/memory",
                    "/sys/fs/cgroup/memory/a/b"
                ),
                tree(
                    Controller::Cpus,
                    "/sys/fs/cgroup/cpu,cpuacct",
                    "/sys/fs/cgroup/cpu,cpuacct/"
                ),
            ]
        );
        // Of which a part is mounted.
        let two = "30 23 0:26 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = trees(two, "0::/user.slice/user-1000.slice/session-1.scope\n");
        assert_eq!(
            found[0].here,
            Path::new("/sys/fs/cgroup/user-1000.slice/session-1.scope")
        );
        assert_eq!(trees(two, "0::/system.slice\n"), []);
    }

    #[test]
    fn a_group_is_made_below_one_that_has_the_controllers_and_no_processes() {
        let mount = tempfile::tempdir().unwrap();
        let here = mount.path().join("user.slice/app.slice/terminal.scope");
        std::fs::create_dir_all(&here).unwrap();
        let offer = |folder: &str, controllers: &str| {
            let file = mount.path().join(folder).join("cgroup.subtree_control");
            std::fs::write(file, controllers).unwrap();
        };
        offer("user.slice/app.slice/terminal.scope", "\n");
        offer("user.slice/app.slice", "memory pids\n");
        offer("user.slice", "cpu memory pids\n");
        let tree = Tree {
            version: Version::Two,
            controllers: Vec::new(),
            mount: mount.path().into(),
            here,
        };
        let (parent, controllers) = tree.parent().unwrap();
        assert_eq!(parent, mount.path().join("user.slice/app.slice"));
        assert_eq!(controllers, [Controller::Memory, Controller::Processes]);
    }

    #[test]
    fn a_kernel_that_outlives_a_child_was_not_killed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.events");
        let say = |killed: u64| std::fs::write(&path, format!("oom_kill {killed}\n")).unwrap();
        say(0);
        let cgroup = Cgroup {
            events: Some(Events {
                file: File::open(&path).unwrap(),
                limit: 7,
                seen: Cell::new(0),
                others: Cell::new(0),
            }),
            ..Cgroup::default()
        };
        cgroup.look(|| true);
        assert_eq!(cgroup.exceeded(), None);
        say(1);
        assert_eq!(cgroup.exceeded(), Some(7));
        // Seen only now, and it may be the kernel that has not ended yet.
        cgroup.look(|| true);
        assert_eq!(cgroup.exceeded(), Some(7));
        cgroup.look(|| false);
        assert_eq!(cgroup.exceeded(), Some(7));
        cgroup.look(|| true);
        assert_eq!(cgroup.exceeded(), None);
        say(2);
        assert_eq!(cgroup.exceeded(), Some(7));
    }

    #[test]
    fn reads_how_many_were_killed() {
        assert_eq!(
            killed("low 0\nhigh 0\nmax 21\noom 3\noom_kill 2\noom_group_kill 0\n"),
            2
        );
        assert_eq!(killed("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), 1);
        assert_eq!(killed(""), 0);
    }
}

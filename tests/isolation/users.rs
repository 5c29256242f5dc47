//! Who a test runs as, and where: root and an ordinary user, in local mode and at each level of the sandbox.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heddle::isolation::level::Level;
use heddle::kernel::python::Python;
use heddle::kernel::{Choice, Launcher, Local, Sandboxed};

use crate::place::{Mode, Place};

/// The ordinary user's number; it needs no entry in the password file.
const USER: u32 = 41_917;
/// Set in the process that runs a test's body.
const INSIDE: &str = "HEDDLE_TEST_INSIDE";
/// What is passed on to it.
const GIVEN: &[&str] = &["HEDDLE_LONG", "HEDDLE_TEST_DEATHS", "HEDDLE_TEST_SEED"];
/// No test takes nearly as long; a hanging one ends.
const LONGEST: Duration = Duration::from_secs(600);
/// Folders that every user can reach.
const SHARED: &str = "/var/tmp";

/// The levels that the user of this process can have. Landlock's as on the newest Linux, and as on older ones.
pub fn levels() -> &'static [Level] {
    match is_root() {
        true => &[Level::Namespaces],
        false => &[
            Level::Namespaces,
            Level::Landlock(u32::MAX),
            Level::Landlock(3),
        ],
    }
}

/// Runs the body in every mode and level, first as root, where these tests run as root, and then as an ordinary user.
pub fn everywhere<T: Future<Output = ()>>(body: impl Fn(Place) -> T) {
    in_modes(true, body);
}

fn in_modes<B: Fn(Place) -> T, T: Future<Output = ()>>(local: bool, body: B) {
    if std::env::var_os(INSIDE).is_none() {
        return as_each_user(&test_name::<B>());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let sandboxes = levels().iter().copied().map(Mode::Sandbox);
    for mode in local.then_some(Mode::Local).into_iter().chain(sandboxes) {
        eprintln!("-- {mode:?}");
        runtime.block_on(body(place(mode)));
    }
}

/// `module::function` of the test whose body this is.
fn test_name<B>() -> String {
    let name = std::any::type_name::<B>();
    let (_, name) = name.split_once("::").unwrap();
    name.split("::{{closure}}").next().unwrap().to_owned()
}

/// Runs one test of this binary again, as root and as the user, with an environment of its own.
fn as_each_user(test: &str) {
    let root = is_root();
    let identities: &[Option<u32>] = if root { &[None, Some(USER)] } else { &[None] };
    for identity in identities {
        let home = scratch();
        let mut command = Command::new(this_test());
        command
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home.path())
            .env("HEDDLE_TEST_BINARY", heddle())
            .env("HEDDLE_TEST_PYTHON", python())
            .env(INSIDE, "1")
            .envs(std::env::vars().filter(|(name, _)| GIVEN.contains(&&**name)))
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(user) = identity {
            nix::unistd::chown(home.path(), Some((*user).into()), Some((*user).into())).unwrap();
            command.uid(*user).gid(*user);
        }
        // Both streams into one file: pipes could be held open by what is under test.
        let said = home.path().join("said");
        let file = std::fs::File::create(&said).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let mut child = command.spawn().unwrap();
        let deadline = std::time::Instant::now() + LONGEST;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if std::time::Instant::now() > deadline => {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        let ran = said.contains("1 passed");
        let who = identity.map_or("the user of these tests".to_owned(), |user| {
            format!("user {user}")
        });
        assert!(status.success() && ran, "as {who}: {status}\n{said}");
    }
}

fn this_test() -> PathBuf {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| shared_copy(&std::env::current_exe().unwrap()))
        .clone()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A private folder that every user could reach, were it theirs.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("heddle-test-")
        .tempdir_in(SHARED)
        .unwrap()
}

/// The heddle binary, where every user can run it.
pub fn heddle() -> PathBuf {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    given("HEDDLE_TEST_BINARY").unwrap_or_else(|| {
        COPY.get_or_init(|| shared_copy(Path::new(env!("CARGO_BIN_EXE_heddle"))))
            .clone()
    })
}

/// A Python with the pinned packages, where every user can run it: made once, of the system's own.
pub fn python() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    given("HEDDLE_TEST_PYTHON").unwrap_or_else(|| MADE.get_or_init(make_python).clone())
}

fn given(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn make_python() -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernelspec/requirements.txt");
    let home = shared_folder().join("python");
    let made = home.join("requirements.txt");
    let wanted = std::fs::read(&requirements).unwrap();
    let lock = std::fs::File::create(shared_folder().join("python.lock")).unwrap();
    lock.lock().unwrap();
    if std::fs::read(&made).ok().as_ref() != Some(&wanted) {
        let _ = std::fs::remove_dir_all(&home);
        run(Command::new("/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(&home));
        run(Command::new(home.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--only-binary=:all:",
                "-r",
            ])
            .arg(&requirements));
        // A program that makes whoever starts it root, where root made it.
        let helper = home.join("bin/setuid-id");
        std::fs::copy("/usr/bin/id", &helper).unwrap();
        std::fs::set_permissions(&helper, Permissions::from_mode(0o4755)).unwrap();
        std::fs::write(made, wanted).unwrap();
    }
    home.join("bin/python")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A copy of a program in a folder that every user can reach.
fn shared_copy(program: &Path) -> PathBuf {
    let name = program.file_name().unwrap();
    let copy = shared_folder().join(name);
    let half = shared_folder().join(format!("{}.half", std::process::id()));
    // The copy that is there may be running for another test run: it is replaced, not written to.
    std::fs::copy(program, &half).unwrap();
    std::fs::set_permissions(&half, Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(half, &copy).unwrap();
    copy
}

/// Kept between runs.
fn shared_folder() -> PathBuf {
    let folder = Path::new(SHARED).join(format!("heddle-tests-{}", nix::unistd::geteuid()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A place of this mode, for the user of this process.
fn place(mode: Mode) -> Place {
    let supervisor = heddle();
    let launcher: Arc<dyn Launcher> = match mode {
        Mode::Local => Arc::new(Local { supervisor }),
        Mode::Sandbox(level) => Arc::new(Sandboxed::with(supervisor, level).unwrap()),
        Mode::Container(_) => unreachable!("containers have tests of their own"),
    };
    let executable = python();
    let prefix = executable.parent().unwrap().parent().unwrap().to_path_buf();
    let active = prefix.to_string_lossy().into_owned();
    let choice = Choice::Python(Python {
        executable,
        prefix,
        managed: false,
        precautions: Default::default(),
    });
    let mut place = Place::new(mode, launcher, choice, heddle(), scratch());
    place.surroundings.push(("VIRTUAL_ENV", active));
    if let Mode::Sandbox(Level::Landlock(abi)) = mode {
        let cap = format!("landlock:{abi}");
        place.surroundings.push(("HEDDLE_SANDBOX_LEVEL", cap));
    }
    place
}

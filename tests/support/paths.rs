//! What code leaves in its folders to be followed, or executed, later: links in the way of mounts, and what Git executes.
//! By the name that code left, everybody else does get there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use heddle::event::Event;
use heddle::executor::{NoInput, interrupts};
use heddle::isolation::level::Level;
use heddle::kernel::Mount;
use heddle::kernel::container::Reach;

use crate::everywhere;
use crate::place::{Mode, Place, Running};

/// Whether a body runs here: where it once went well, and in all modes in the long form.
fn goes(place: &Place) -> bool {
    let usual = [
        Mode::Local,
        Mode::Sandbox(Level::Namespaces),
        Mode::Container(Reach::Sockets),
    ];
    let goes = is_long() || usual.contains(&place.mode);
    if !goes {
        eprintln!("skipped: HEDDLE_LONG=1 runs it in {:?} too", place.mode);
    }
    goes
}

fn is_long() -> bool {
    std::env::var_os("HEDDLE_LONG").is_some_and(|value| value == "1")
}

/// A workspace with `a/data`, a folder elsewhere with a secret in its `data`, and the code that puts a link to that in the
/// place of `a`.
struct Trap {
    workspace: PathBuf,
    outside: tempfile::TempDir,
    code: String,
}

impl Trap {
    fn set(place: &mut Place) -> Trap {
        let workspace = place.workspace.path().canonicalize().unwrap();
        std::fs::create_dir_all(workspace.join("a/data")).unwrap();
        let outside = tempfile::tempdir_in(workspace.parent().unwrap()).unwrap();
        std::fs::create_dir(outside.path().join("data")).unwrap();
        std::fs::write(outside.path().join("data/secret"), "secret").unwrap();
        place.grants.mounts = vec![Mount {
            path: workspace.join("a/data"),
            writable: true,
        }];
        let code = format!(
            "import os\nos.rename('a', 'b'); os.symlink({:?}, 'a')",
            outside.path()
        );
        Trap {
            workspace,
            outside,
            code,
        }
    }

    /// The name leads to the secret for everybody who follows it.
    fn assert_set(&self) {
        let secret = self.workspace.join("a/data/secret");
        assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
    }

    fn assert_refused(&self, said: &str) {
        for part in [
            "a is a link to",
            "code may have put it there",
            &format!("{}", self.outside.path().join("data").display()),
        ] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        let left = std::fs::read_dir(self.outside.path().join("data")).unwrap();
        assert_eq!(left.count(), 1);
    }

    fn undo(&self) {
        std::fs::remove_file(self.workspace.join("a")).unwrap();
        std::fs::rename(self.workspace.join("b"), self.workspace.join("a")).unwrap();
    }
}

/// Runs a cell in a kernel that cannot be started again.
async fn not_started_again(kernel: &mut Running) -> String {
    let (mut sink, mut input, mut interrupts) = (|_| {}, NoInput, interrupts().1);
    let code = "open('a/data/planted', 'w')";
    let run = kernel
        .executor
        .run(code, &mut sink, &mut input, &mut interrupts);
    run.await.map(drop).unwrap_err().to_string()
}

#[test]
fn a_link_that_code_puts_in_the_way_of_a_mount_is_followed_by_no_later_kernel() {
    everywhere(async |mut place| {
        if place.mode == Mode::Local || !goes(&place) {
            return;
        }
        let trap = Trap::set(&mut place);
        let mut kernel = place.start().await;
        // In the same process, as the next cell would have it.
        let died = kernel
            .run(&format!("{}; os._exit(1)", trap.code))
            .await
            .died;
        assert!(died.is_some());
        trap.assert_set();
        trap.assert_refused(&not_started_again(&mut kernel).await);
        trap.undo();
        assert_eq!(kernel.printed("print('anew')").await, "anew");
        // Another folder in its place is not a link, and not the one that was granted.
        let swap = "import os; os.rename('a', 'b'); os.makedirs('a/data'); os._exit(1)";
        kernel.run(swap).await;
        let said = not_started_again(&mut kernel).await;
        assert!(said.contains("is not what it was"), "{said}");
        std::fs::remove_dir_all(trap.workspace.join("a")).unwrap();
        std::fs::rename(trap.workspace.join("b"), trap.workspace.join("a")).unwrap();
        // By another command, and by a second kernel, while the first one runs.
        kernel.printed(&trap.code).await;
        trap.assert_set();
        let ran = place
            .command(&["run", "--mount", "a/data:rw", "-c", "print('in')"])
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        trap.assert_refused(&String::from_utf8_lossy(&ran.stderr));
        let second = place.try_start().await.map(drop).unwrap_err();
        trap.assert_refused(&second.to_string());
        // Whoever undoes it gets what was granted.
        trap.undo();
        let ran = place
            .command(&["run", "--mount", "a/data:rw", "-c", "open('a/data/x', 'w')"])
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        assert!(trap.workspace.join("a/data/x").exists());
        kernel.end().await;
    });
}

/// Runs `git` outside, as a person would.
fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@x"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn notices(kernel: &Running) -> String {
    let notices = kernel.events.iter().filter_map(|event| match event {
        Event::Notice { message, .. } => Some(message.as_str()),
        _ => None,
    });
    notices.collect::<Vec<_>>().join("\n")
}

/// Whether Git has executed something since this was asked last.
fn executed(folder: &Path) -> Vec<&'static str> {
    git(folder, &["status"]);
    git(folder, &["commit", "--allow-empty", "-q", "-m", "x"]);
    let names = ["by-config", "by-hook"].into_iter();
    names
        .filter(|name| std::fs::remove_file(folder.join(name)).is_ok())
        .collect()
}

#[test]
fn what_git_executes_outside_is_kept_from_code_or_named() {
    everywhere(async |mut place| {
        if !goes(&place) {
            return;
        }
        let workspace = place.workspace.path().canonicalize().unwrap();
        git(&workspace, &["init", "-q"]);
        std::fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
        std::fs::create_dir(workspace.join(".vscode")).unwrap();
        let here = workspace.display();
        let plant = format!(
            "
import os
def attempt(act):
    try: act()
    except OSError: print('refused')
def config(): open('.git/config', 'a').write('[core]\\n\\tfsmonitor = \"touch {here}/by-config; false\"\\n')
def hook():
    with open('.git/hooks/post-commit', 'w') as f: f.write('#!/bin/sh\\ntouch {here}/by-hook\\n')
    os.chmod('.git/hooks/post-commit', 0o755)
def away():
    os.rename('.git', 'other'); os.rename('other', '.git')
attempt(config); attempt(hook); attempt(away)
attempt(lambda: open('.vscode/tasks.json', 'w'))
open('conftest.py', 'w')
"
        );
        let mut kernel = place.start().await;
        let printed = kernel.printed(&plant).await;
        let executed_outside = executed(&workspace);
        let told = notices(&kernel);
        let keeps = match place.mode {
            // Where nothing keeps code from it, everything that it planted is executed.
            Mode::Local => false,
            Mode::Sandbox(Level::Landlock(_)) => {
                assert!(told.contains("\n  + \\tfsmonitor = \"touch"), "{told}");
                assert!(told.contains("To put it back as it was: cp "), "{told}");
                false
            }
            _ => true,
        };
        match keeps {
            true => assert_eq!((printed.lines().count(), executed_outside.len()), (4, 0)),
            false => assert_eq!((&*printed, executed_outside.len()), ("", 2)),
        }
        if keeps {
            assert_eq!(told, "");
            // Somebody outside replaces the file: the mount is gone, and that is told.
            git(&workspace, &["config", "x.y", "z"]);
            let printed = kernel.printed("attempt(config)").await;
            let told = notices(&kernel);
            // An engine that is asked for a file mounts it anew for nobody.
            if printed.is_empty() {
                assert!(told.contains("\n  + \\tfsmonitor = \"touch"), "{told}");
            }
        }
        let left = kernel.executor.shutdown().await.join("\n");
        let is_named = left.contains(&format!("{here}/conftest.py"));
        assert_eq!(is_named, place.mode != Mode::Local, "{left}");
        // Whoever asks for it may.
        if place.mode == Mode::Sandbox(Level::Namespaces) {
            place.grants.git_config = true;
            let mut kernel = place.start().await;
            let printed = kernel.printed(&plant).await;
            assert_eq!(printed, "refused", "only .vscode is kept");
            kernel.end().await;
        }
    });
}

/// Makes an environment in the workspace that has what another has.
fn nested(place: &mut Place, folder: &Path) -> heddle::kernel::python::Python {
    let heddle::kernel::Choice::Python(outer) = &place.choice else {
        panic!("no Python of this machine");
    };
    let made = Command::new(&outer.executable)
        .args(["-m", "venv", "--without-pip"])
        .arg(folder)
        .status();
    assert!(made.unwrap().success());
    let library = |prefix: &Path| {
        let versions = std::fs::read_dir(prefix.join("lib")).unwrap().flatten();
        let version = versions
            .map(|entry| entry.path())
            .find(|path| path.join("site-packages").is_dir());
        version.unwrap().join("site-packages")
    };
    let outer = library(&outer.prefix);
    std::fs::write(library(folder).join("outer.pth"), outer.to_str().unwrap()).unwrap();
    // Isolated code sees an environment, and no other that this one names.
    place.grants.mounts.push(heddle::kernel::Mount {
        path: outer,
        writable: false,
    });
    heddle::kernel::python::Python {
        executable: folder.join("bin/python"),
        prefix: folder.to_path_buf(),
        managed: false,
        precautions: Default::default(),
    }
}

/// What people have code do in a repository, each step in a shell.
const WORK: &[&str] = &[
    "git status",
    "echo 1 > backend/one; git add backend/one; git commit -q -m one",
    "git switch -q -c topic; echo 2 > two; git add two; git commit -q -m two",
    "echo 3 >> backend/one; git stash -q; git stash pop -q; git checkout -q backend/one",
    "git switch -q main; echo 4 > four; git add four; git commit -q -m four",
    "git merge -q -m merge topic",
    "git switch -q -c other HEAD~1; echo 5 > five; git add five; git commit -q -m five; git rebase -q main",
    "git gc -q",
    "git worktree add -q tree main; git -C tree log -1",
    "git clone -q . copy; git -C copy log -1",
    "git mv backend/one one; git commit -q -m moved",
    "mkdir -p frontend; echo > backend/x; mv -T backend/x frontend/x",
    "echo new > backend/y.part; mv -T backend/y.part backend/y; echo newer > y.part; mv -T y.part backend/y",
    "python3 -m venv --without-pip tools/.venv; python3 -m venv --clear --without-pip tools/.venv; tools/.venv/bin/python -c 1",
];

#[test]
fn git_and_editors_work_in_a_workspace_with_a_nested_environment() {
    everywhere(async |mut place| {
        if let Mode::Container(_) = place.mode {
            eprintln!("skipped: the image of these tests has no git");
            return;
        }
        if !goes(&place) {
            return;
        }
        let workspace = place.workspace.path().canonicalize().unwrap();
        git(&workspace, &["init", "-q", "-b", "main"]);
        std::fs::write(
            workspace.join(".gitignore"),
            ".venv\ntree\ncopy\nartifacts\n",
        )
        .unwrap();
        git(&workspace, &["add", "."]);
        git(&workspace, &["commit", "-q", "-m", "begin"]);
        let python = nested(&mut place, &workspace.join("backend/.venv"));
        place.choice = heddle::kernel::Choice::Python(python);
        let mut kernel = place.start().await;
        kernel
            .printed(
                "import os, subprocess, sys
for name in ['AUTHOR', 'COMMITTER']:
    os.environ[f'GIT_{name}_NAME'], os.environ[f'GIT_{name}_EMAIL'] = 'x', 'x@x'
def work(step):
    done = subprocess.run(['sh', '-ec', step], capture_output=True, text=True)
    print(done.returncode or '', done.stderr if done.returncode else '')",
            )
            .await;
        for step in WORK {
            assert_eq!(
                kernel.printed(&format!("work({step:?})")).await,
                "",
                "{step}"
            );
        }
        let prefix = kernel.printed("print(sys.prefix)").await;
        assert_eq!(Path::new(&prefix), workspace.join("backend/.venv"));
        // The environment in use is only read.
        let write = "
try: open(sys.prefix + '/pyvenv.cfg', 'a'); print('written')
except OSError: print('refused')";
        let written = kernel.printed(write).await;
        let only_read = place.mode == Mode::Sandbox(Level::Namespaces);
        assert_eq!(written == "refused", only_read);
        kernel.end().await;
        git(&workspace, &["fsck"]);
        let mode = std::fs::metadata(workspace.join(".git"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o700, 0o700);
    });
}

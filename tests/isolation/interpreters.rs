//! Interpreters that code has left where a later start finds them: what lies there is executed in no other place than a
//! sandbox.

use std::path::{Path, PathBuf};
use std::process::Command;

use heddle::kernel::{Choice, Mount};

use crate::everywhere;
use crate::place::{Mode, Place};
use crate::users::scratch;

/// Gives a folder below the workspace a virtual environment whose packages are those of the place's Python.
fn environment(place: &mut Place, name: &str) -> PathBuf {
    let Choice::Python(python) = &place.choice else {
        unreachable!()
    };
    let root = place.workspace.path().join(name);
    let libraries = std::fs::read_dir(python.prefix.join("lib")).unwrap();
    let library = libraries.flatten().next().unwrap().file_name();
    let site = Path::new("lib").join(library).join("site-packages");
    std::fs::create_dir_all(root.join(&site)).unwrap();
    std::fs::create_dir(root.join("bin")).unwrap();
    let theirs = python.prefix.join(&site);
    let line = theirs.display().to_string();
    std::fs::write(root.join(&site).join("theirs.pth"), line).unwrap();
    // Who asks whether it is there sees the environment alone.
    let copied = Command::new("cp")
        .arg("-r")
        .args([theirs.join("ipykernel"), root.join(&site)])
        .status();
    assert!(copied.unwrap().success());
    std::fs::copy(python.prefix.join("pyvenv.cfg"), root.join("pyvenv.cfg")).unwrap();
    let real = python.executable.canonicalize().unwrap();
    std::os::unix::fs::symlink(real, root.join("bin/python")).unwrap();
    place.grants.mounts.push(Mount {
        path: python.prefix.clone(),
        writable: false,
    });
    root
}

/// Python that writes a program which leaves a mark outside and then goes on as the interpreter that it replaces.
fn plant(program: &Path, mark: &Path, real: &Path) -> String {
    let script = format!(
        "#!/bin/sh\n: > '{}'\nexec '{}' \"$@\"\n",
        mark.display(),
        real.display()
    );
    format!(
        "
import os
program, script = {program:?}, {script:?}
if os.path.lexists(program): os.remove(program)
open(program, 'w').write(script)
os.chmod(program, 0o755)"
    )
}

/// Executed by hand, what was planted does what it was planted for.
fn assert_works(program: &Path, mark: &Path) {
    assert!(!mark.exists(), "it was executed outside");
    let ran = Command::new(program).args(["-c", "1"]).status().unwrap();
    assert!(ran.success() && mark.exists());
}

#[test]
fn one_whose_parent_was_swapped_is_not_executed_outside_at_a_restart_nor_by_another_command() {
    everywhere(async |mut place| {
        if place.mode == Mode::Local {
            return;
        }
        let outside = scratch();
        let mark = outside.path().join("mark");
        let root = environment(&mut place, "backend/.venv");
        let program = root.join("bin/python");
        let Choice::Python(python) = &mut place.choice else {
            unreachable!()
        };
        let real = python.executable.canonicalize().unwrap();
        (python.executable, python.prefix) = (program.clone(), root.clone());
        let mut kernel = place.start().await;
        let prefix = kernel.printed("import sys; print(sys.prefix)").await;
        assert_eq!(Path::new(&prefix), root);
        let swap = "import shutil, os; os.rename('backend', 'old'); shutil.copytree('old', 'backend', symlinks=True)";
        kernel.printed(swap).await;
        kernel.printed(&plant(&program, &mark, &real)).await;
        // Whether it then runs in the sandbox is its own affair.
        let _ = kernel.executor.restart().await;
        kernel.end().await;
        // Another process asks it about itself.
        let listed = place
            .command(&["kernel", "list"])
            .env("VIRTUAL_ENV", &root)
            .output();
        assert!(listed.unwrap().status.success());
        assert_works(&program, &mark);
    });
}

#[test]
fn one_that_code_has_written_to_is_asked_in_a_sandbox_by_whoever_uses_it_later() {
    everywhere(async |mut place| {
        if place.mode == Mode::Local {
            return;
        }
        let (outside, elsewhere) = (scratch(), scratch());
        let mark = outside.path().join("mark");
        // Not active while code runs beside it.
        let root = environment(&mut place, ".venv");
        let program = root.join("bin/python");
        let real = program.canonicalize().unwrap();
        let mut kernel = place.start().await;
        let line = format!(
            "import os; os.path.exists({outside:?}) and open({mark:?}, 'w')",
            outside = outside.path()
        );
        let pth = format!(
            "import glob; open(glob.glob('.venv/lib/*/site-packages')[0] + '/more.pth', 'w').write({line:?})"
        );
        kernel.printed(&pth).await;
        let mount = format!("{}:ro", place.grants.mounts[0].path.display());
        let arguments = [
            "run",
            "--mount",
            &mount,
            "-c",
            "import sys; print(sys.prefix)",
        ];
        let later = |place: &Place, folder: &Path, arguments: &[&str]| {
            let mut command = place.command(arguments);
            let said = command
                .env("VIRTUAL_ENV", &root)
                .current_dir(folder)
                .output();
            let said = said.unwrap();
            assert!(!mark.exists(), "it was executed outside: {said:?}");
            said
        };
        for folder in [place.workspace.path(), elsewhere.path()] {
            let said = later(&place, folder, &arguments);
            let printed = String::from_utf8_lossy(&said.stdout);
            assert_eq!(Path::new(printed.trim()), root, "{said:?}");
        }
        // Each start of a Python there executes the line.
        assert!(
            Command::new(&program)
                .args(["-I", "-c", "1"])
                .status()
                .unwrap()
                .success()
        );
        std::fs::remove_file(&mark).unwrap();

        kernel.printed(&plant(&program, &mark, &real)).await;
        kernel.end().await;
        for folder in [place.workspace.path(), elsewhere.path()] {
            later(&place, folder, &["kernel", "list"]);
        }
        assert_works(&program, &mark);
    });
}

//! The start of a kernel: nothing of it is imported from where code of the user's can write.

use std::ffi::OsString;

use super::python::Precautions;

/// What Python runs in the place of `-m MODULE`.
const START: &str = include_str!("../../kernelspec/start_kernel.py");

/// The modules that it starts.
const MODULES: [&str; 2] = ["ipykernel_launcher", "ipykernel"];

/// Gives a start what [`hold_back`] took from PYTHONPATH.
const HELD_BACK: &str = "HEDDLE_PYTHONPATH";

/// The command that starts ipykernel, such as `python3 -m ipykernel_launcher -f FILE`, without the working directory on
/// its path. Others stay as they are.
pub(super) fn of(mut argv: Vec<String>) -> Vec<String> {
    // Options without a value of their own may come first, such as -Xfrozen_modules=off.
    let options = argv.iter().skip(1);
    let options = options.take_while(|arg| arg.len() > 2 && arg.starts_with('-'));
    let at = 1 + options.count();
    let starts = argv.get(at).is_some_and(|arg| arg == "-m")
        && argv
            .get(at + 1)
            .is_some_and(|module| MODULES.contains(&module.as_str()));
    if starts {
        let code = START.lines().filter(|line| !line.starts_with('#'));
        let code = code.collect::<Vec<_>>().join("\n");
        argv.splice(at..=at, ["-c".to_owned(), code]);
    }
    argv
}

/// Takes from PYTHONPATH the folders that code can write to, until code of the user's runs: Python itself imports from
/// there as it starts.
pub(super) fn hold_back(
    argv: &[String],
    env: &mut Vec<(OsString, OsString)>,
    precautions: &Precautions,
) {
    let is_ours = |args: &[String]| {
        let module = args.get(2).map(String::as_str);
        args[0] == "-c" && module.is_some_and(|module| MODULES.contains(&module))
    };
    if !argv.windows(3).any(is_ours) {
        return;
    }
    let Some((_, path)) = env.iter_mut().find(|(name, _)| name == "PYTHONPATH") else {
        return;
    };
    let kept = |folder: &std::path::PathBuf| {
        // An empty name, and a relative one, are below the working directory.
        let real = folder.canonicalize();
        let all = std::iter::once(folder).chain(&real);
        folder.is_absolute() && !all.into_iter().any(|folder| precautions.covers(folder))
    };
    let whole = path.clone();
    let left = std::env::join_paths(std::env::split_paths(&whole).filter(kept));
    *path = left.unwrap_or_default();
    if *path != whole {
        env.push((HELD_BACK.into(), whole));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn ipykernel_is_started_by_code_and_other_programs_as_they_are() {
        for command in [
            "python3 -m ipykernel_launcher -f {x}",
            "p -Xa=b -m ipykernel -f",
        ] {
            let before = words(command);
            let at = before.iter().position(|arg| arg == "-m").unwrap();
            let argv = of(before.clone());
            assert_eq!(argv[at], "-c");
            assert!(argv[at + 1].starts_with("import sys\n"), "{argv:?}");
            assert_eq!(argv[at + 2..], before[at + 1..]);
        }
        for command in [
            "R --slave -e x",
            "python3 a.py -m ipykernel",
            "p -c -m ipykernel",
            "p",
        ] {
            assert_eq!(of(words(command)), words(command));
        }
    }

    #[test]
    fn folders_that_code_can_write_to_are_held_back() {
        let argv = of(words("python3 -m ipykernel_launcher -f f"));
        let precautions = Precautions::default().and([Path::new("/desk")].into_iter());
        let held = |argv: &[String], path: &str| {
            let mut env = vec![("PYTHONPATH".into(), path.into())];
            hold_back(argv, &mut env, &precautions);
            let values = env.into_iter().map(|(_, value)| value);
            values.collect::<Vec<OsString>>()
        };
        let is = |values: Vec<OsString>, expected: &[&str]| assert_eq!(values, expected);
        is(
            held(&argv, "/desk/src:/usr/x:."),
            &["/usr/x", "/desk/src:/usr/x:."],
        );
        is(held(&argv, "/usr/x"), &["/usr/x"]);
        is(held(&words("R a b c"), "/desk"), &["/desk"]);
    }
}

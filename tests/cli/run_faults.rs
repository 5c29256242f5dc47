//! `heddle run` with what goes wrong: each with its one clear message, its exit code, and nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::heddle::{Heddle, finish, pid};

#[test]
fn an_exception_is_a_traceback_on_standard_error_with_its_line_last() {
    let ran = Heddle::new()
        .code("print('before')\ndef f():\n    1 / 0\nf()")
        .assert_code(1)
        .assert_out("before\n");
    assert!(
        ran.err.contains("Traceback (most recent call last)"),
        "{ran:?}"
    );
    assert!(
        ran.err.ends_with("ZeroDivisionError: division by zero\n"),
        "{ran:?}"
    );
    assert!(
        !ran.err.contains('\x1b'),
        "colours belong to terminals: {ran:?}"
    );
}

#[test]
fn code_that_is_no_python_is_an_error_of_the_code() {
    let heddle = Heddle::new();
    let shown = "  Cell In[1], line 1\n    def f(\n          ^\nSyntaxError: incomplete input\n\n";
    heddle.code("def f(").assert_code(1).assert_err(shown);
    heddle.write("nul.py", "print(1)\0");
    let ran = heddle.run(["run", "nul.py"]).assert_code(1).assert_out("");
    assert!(
        ran.err
            .contains("source code string cannot contain null bytes"),
        "{ran:?}"
    );
}

#[test]
fn wrong_use_has_one_message_that_says_what_to_do() {
    let heddle = Heddle::bare();
    heddle.write("latin.py", b"# fine\nprint('caf\xe9')\n");
    heddle.write("a.py", "1");
    heddle.write(
        "a.ipynb",
        r#"{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"#,
    );
    heddle.write(
        "old.ipynb",
        r#"{"metadata": {}, "nbformat": 3, "nbformat_minor": 0, "worksheets": []}"#,
    );
    heddle.write("torn.ipynb", "{");
    let cases: &[(&[&str], &str)] = &[
        (
            &["nosuch.py"],
            "error: cannot read nosuch.py: No such file or directory (os error 2)\n",
        ),
        (
            &["nosuch.ipynb"],
            "error: cannot read the notebook nosuch.ipynb: No such file or directory (os error 2)\n",
        ),
        (
            &["."],
            "error: cannot read .: Is a directory (os error 21)\n",
        ),
        (
            &["latin.py"],
            "error: latin.py is not UTF-8 text: see its line 2. Save it as UTF-8 and run it again\n",
        ),
        (
            &["a.py", "-o", "b.ipynb"],
            "error: -o and --allow-errors are for notebooks, and a.py is none. Name a .ipynb file, or leave them out\n",
        ),
        (
            &["a.ipynb", "-o", "nosuch/b.ipynb"],
            "error: the notebook cannot be written: there is no folder nosuch\n",
        ),
        (
            &["a.ipynb", "-o", "-", "--json"],
            "error: -o - and --json both write to standard output. Name a file for the notebook\n",
        ),
        (
            &["old.ipynb"],
            "error: old.ipynb: this notebook has nbformat 3, and only nbformat 4 can be used. \
             Convert it: jupyter nbconvert --to notebook --nbformat 4 FILE\n",
        ),
        (
            &["torn.ipynb"],
            "error: torn.ipynb: not a Jupyter notebook: its JSON is broken (EOF while parsing an object at line 1 \
             column 1). Open it in Jupyter and save it again, or take an earlier copy from its .ipynb_checkpoints \
             folder\n",
        ),
        (
            &["-c", "1", "--timeout", "-3"],
            "error: invalid value '-3' for '--timeout <SECONDS>': a number of seconds above 0 is needed, such as 30 \
             or 0.5\n\nFor more information, try '--help'.\n",
        ),
        (
            &[],
            "error: the following required arguments were not provided:\n  <FILE>\n\n\
             Usage: heddle run [OPTIONS] FILE\n       heddle run [OPTIONS] -c CODE\n\n\
             For more information, try '--help'.\n",
        ),
    ];
    for (args, message) in cases {
        let ran = heddle.run([&["run"], *args].concat());
        ran.assert_code(2).assert_out("").assert_err(message);
    }
}

#[test]
fn a_variable_that_is_not_there_is_wrong_use() {
    let heddle = Heddle::new();
    let message = "error: --env NOSUCH_VARIABLE: that variable is not set here. Use --env NOSUCH_VARIABLE=VALUE\n";
    heddle
        .run(["run", "-c", "1", "-e", "NOSUCH_VARIABLE"])
        .assert_code(2)
        .assert_err(message);
    let message = "error: --env =1: a name is missing before the =\n";
    heddle
        .run(["run", "-c", "1", "-e", "=1"])
        .assert_code(2)
        .assert_err(message);
}

#[test]
fn a_mode_that_is_not_there_is_refused_and_nothing_runs() {
    let ran = Heddle::bare()
        .run(["run", "--mode", "container", "-c", "1"])
        .assert_code(3)
        .assert_out("");
    for way_out in ["--mode sandbox", "--mode local"] {
        assert!(ran.err.contains(way_out), "{ran:?}");
    }
}

#[test]
fn input_at_the_end_of_standard_input_is_an_eof_error() {
    let heddle = Heddle::new();
    for code in [
        "input('? ')",
        "import getpass; getpass.getpass()",
        "input(); input(); input()",
    ] {
        let ran = heddle.with_input("", ["run", "-c", code]).assert_code(1);
        assert!(ran.err.trim_end().ends_with("EOFError:"), "{ran:?}");
    }
    // Where the code itself came that way, nobody can be asked.
    let ran = heddle.with_input("input()", ["run", "-"]).assert_code(1);
    assert!(
        ran.err.contains("does not support input requests"),
        "{ran:?}"
    );
}

#[test]
fn a_cell_beyond_its_time_is_interrupted_and_what_it_printed_is_kept() {
    let heddle = Heddle::new();
    let code = "import time\nprint('begun', flush=True)\ntime.sleep(100)";
    let ran = heddle
        .run(["run", "--timeout", "1", "-c", code])
        .assert_code(130)
        .assert_out("begun\n");
    let first = "the cell is interrupted: it ran for longer than its limit of 1 s\n";
    assert!(ran.err.starts_with(first), "{ran:?}");
    assert!(
        ran.err.trim_end().ends_with("KeyboardInterrupt:"),
        "{ran:?}"
    );
}

#[test]
fn ctrl_c_interrupts_the_cell_and_leaves_no_process() {
    let heddle = Heddle::new();
    let code = "import subprocess, time\nsubprocess.Popen(['sleep', '1000'])\nprint('go', flush=True)\ntime.sleep(1000)";
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mark = heddle.mark();
        let args = ["run", &mark[0], &mark[1], "-c", code];
        let mut child = heddle.command(args).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "go\n");
        assert!(!heddle.survivors().is_empty(), "the kernel is marked");
        kill(pid(&child), signal).unwrap();
        let ran = finish(child).assert_code(130);
        assert!(
            ran.err.trim_end().ends_with("KeyboardInterrupt:"),
            "{ran:?}"
        );
        assert_eq!(heddle.survivors(), [""; 0]);
    }
}

#[test]
fn a_flood_of_output_can_be_interrupted() {
    let heddle = Heddle::new();
    let code = "import itertools\nfor number in itertools.count(): print(number)";
    let mut child = heddle.command(["run", "-c", code]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    kill(pid(&child), Signal::SIGINT).unwrap();
    // Read on, as a terminal does.
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    finish(child).assert_code(130);
    reader.join().unwrap().unwrap();
}

#[test]
fn ctrl_c_comes_before_output_that_a_slow_reader_has_not_taken() {
    const PRINTED: u64 = 100_000_000;
    let heddle = Heddle::new();
    let code = format!("print('x' * {PRINTED})");
    let mut child = heddle.command(["run", "-c", &code]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    kill(pid(&child), Signal::SIGINT).unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let ran = finish(child).assert_code(130);
    let taken = reader.join().unwrap().unwrap();
    assert!(taken < PRINTED / 2, "{taken}");
    assert!(
        ran.err.contains(" bytes that the cell had printed"),
        "{ran:?}"
    );
}

#[test]
fn a_second_ctrl_c_ends_a_program_that_is_stuck() {
    let heddle = Heddle::new();
    let code = "print('x' * 1_000_000, flush=True)\nimport time; time.sleep(1000)";
    let mark = heddle.mark();
    let mut child = heddle
        .command(["run", &mark[0], &mark[1], "-c", code])
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    // Nobody reads on, so it waits in the midst of a write.
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(10), "it is deaf");
        kill(pid(&child), Signal::SIGINT).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    finish(child).assert_code(130);
    let gone = || heddle.survivors().is_empty();
    while !gone() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it leaves a kernel"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cell_that_swallows_interrupts_loses_its_kernel() {
    let heddle = Heddle::new();
    let code = "
import signal, time
signal.signal(signal.SIGINT, lambda *_: print('no', flush=True))
print('go', flush=True)
while True: time.sleep(1000)";
    let mark = heddle.mark();
    let mut child = heddle
        .command(["run", &mark[0], &mark[1], "-c", code])
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    for expected in ["go", "no", "no", "no"] {
        assert_eq!(out.next().unwrap().unwrap(), expected);
        kill(pid(&child), Signal::SIGINT).unwrap();
    }
    let ran = finish(child).assert_code(130);
    let message = "the cell does not stop when it is interrupted, so its kernel is ended\n\
                   KernelDied: the kernel was killed by signal 9 (SIGKILL) while the cell was running\n";
    assert!(ran.err.starts_with(message), "{ran:?}");
    assert_eq!(heddle.survivors(), [""; 0]);
}

#[test]
fn a_kernel_that_dies_says_how() {
    let heddle = Heddle::new();
    for (code, how) in [
        (
            "import os; os.kill(os.getpid(), 9)",
            "was killed by signal 9 (SIGKILL)",
        ),
        ("import os; os._exit(7)", "exited with code 7"),
    ] {
        let message = format!(
            "KernelDied: the kernel {how} while the cell was running\nVariables are lost: the kernel {how}.\n"
        );
        heddle
            .code(&format!("print('last', flush=True)\n{code}"))
            .assert_code(1)
            .assert_err(&message);
    }
}

#[test]
fn a_reader_that_goes_ends_the_run() {
    let heddle = Heddle::new();
    let code = "import itertools\nfor number in itertools.count(): print(number)";
    let mark = heddle.mark();
    for more in [&["--artifacts", "out"][..], &["--json"]] {
        let args = [&["run", &mark[0], &mark[1], "-c", code], more].concat();
        let mut child = heddle.command(args).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        finish(child).assert_code(130).assert_err("");
        assert_eq!(heddle.survivors(), [""; 0]);
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_told() {
    let heddle = Heddle::new();
    let full = || {
        Stdio::from(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        )
    };
    let message = "standard output cannot be written: No space left on device (os error 28)\n";
    let child = heddle
        .command(["run", "-c", "print(1)"])
        .stdout(full())
        .spawn()
        .unwrap();
    finish(child).assert_err(message);
    let child = heddle
        .command(["config", "show"])
        .stdout(full())
        .spawn()
        .unwrap();
    finish(child)
        .assert_code(1)
        .assert_err(&format!("error: {message}"));
}

#[test]
fn a_slow_reader_costs_no_memory() {
    let heddle = Heddle::new();
    // The cell tells its end through a named pipe, since its prints are stuck behind the reader.
    let fifo = heddle.cwd().join("end");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let code =
        "for _ in range(200):\n    print('x' * (1 << 20), flush=True)\nopen('end', 'w').close()";
    let mut child = heddle.command(["run", "-c", code]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    std::fs::read(&fifo).unwrap();
    let mut first = vec![0; 1 << 20];
    out.read_exact(&mut first).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    child.stdout = Some(out);
    let ran = finish(child).assert_code(0);
    assert!(peak < 160 << 10, "{peak} kB for 200 MiB");
    // What is not shown is told.
    let whole = ran.out.len() + first.len() == 200 * ((1 << 20) + 1);
    let told = ran
        .err
        .ends_with("came faster than they could be shown and are left out\n");
    assert!(whole || told, "{} bytes came: {}", ran.out.len(), ran.err);
}

#[test]
fn a_child_that_holds_the_pipe_holds_up_nothing_and_does_not_stay() {
    let heddle = Heddle::new();
    let mark = heddle.mark();
    let code = "
import subprocess, threading
subprocess.Popen(['sleep', '1000'])
subprocess.Popen(['sleep', '1000'], start_new_session=True)
threading.Thread(target=threading.Event().wait, daemon=True).start()
print('done')";
    heddle
        .run(["run", &mark[0], &mark[1], "-c", code])
        .assert_done("done\n");
    assert_eq!(heddle.survivors(), [""; 0]);
}

#[test]
fn a_working_directory_that_is_gone_is_told() {
    let heddle = Heddle::bare();
    let gone = heddle.cwd().join("gone");
    std::fs::create_dir(&gone).unwrap();
    // The shell removes the folder that it stands in, and becomes heddle.
    let heddle_there = heddle.command(["run", "-c", "1"]);
    let script = r#"rmdir "$PWD" && exec "$0" "$@""#;
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", script])
        .arg(heddle_there.get_program())
        .args(heddle_there.get_args());
    shell
        .current_dir(gone)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let message =
        "error: the working directory cannot be used: No such file or directory (os error 2)\n";
    finish(shell.spawn().unwrap())
        .assert_code(1)
        .assert_out("")
        .assert_err(message);
}

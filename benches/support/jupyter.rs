//! jupyter_client and `jupyter execute`, in a pinned environment of their own below `target/`.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::check;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
/// The name of the kernelspec that leads Jupyter to the Python that Heddle uses.
const KERNEL: &str = "heddle-bench";

/// The environment.
pub struct Jupyter {
    venv: PathBuf,
    /// Where the kernelspec is.
    data: PathBuf,
}

impl Jupyter {
    /// Makes the environment, unless it is there already, for kernels that run on `python`.
    pub fn prepare(python: &Path) -> io::Result<Jupyter> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let venv = target.join("bench-jupyter");
        let requirements = Path::new(FOLDER).join("benches/requirements.txt");
        let mark = venv.join("requirements.txt");
        let wanted = std::fs::read(&requirements)?;
        if std::fs::read(&mark).ok().as_ref() != Some(&wanted) {
            eprintln!(
                "installing jupyter_client and nbclient in {}",
                venv.display()
            );
            let mut make = Command::new(python);
            check(make.args(["-m", "venv", "--clear"]).arg(&venv))?;
            let mut install = Command::new(venv.join("bin/python"));
            install.args(["-m", "pip", "install", "--quiet", "--no-input"]);
            install.args(["--disable-pip-version-check", "-r"]);
            check(install.arg(&requirements))?;
            std::fs::write(&mark, wanted)?;
        }
        let data = target.join("bench-jupyter-data");
        let kernel = data.join("kernels").join(KERNEL);
        std::fs::create_dir_all(&kernel)?;
        let argv = [
            &python.to_string_lossy(),
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
        ];
        let spec = json!({"argv": argv, "display_name": "Python", "language": "python"});
        std::fs::write(kernel.join("kernel.json"), spec.to_string())?;
        Ok(Jupyter { venv, data })
    }

    /// `jupyter execute NOTEBOOK --output OUT`.
    pub fn execute(&self, notebook: &Path, out: &Path) -> Command {
        let mut command = self.command("jupyter");
        command.arg("execute").arg(notebook);
        command.arg(format!("--kernel_name={KERNEL}"));
        command.arg(format!("--output={}", out.display()));
        command
    }

    fn command(&self, program: &str) -> Command {
        let bin = self.venv.join("bin");
        let mut command = Command::new(bin.join(program));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(bin).chain(std::env::split_paths(&path));
        command.env(
            "PATH",
            std::env::join_paths(folders).unwrap_or(path.clone()),
        );
        command.env("JUPYTER_PATH", &self.data);
        command.env("JUPYTER_PLATFORM_DIRS", "1");
        command
    }

    /// Starts a process of jupyter_client, all imports done.
    pub fn client(&self) -> io::Result<JupyterClient> {
        let mut child = self
            .command("python")
            .arg(Path::new(FOLDER).join("benches/support/jupyter.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (commands, answers) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        Ok(JupyterClient {
            child,
            commands,
            answers: BufReader::new(answers),
        })
    }
}

pub struct JupyterClient {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
pub struct Answer {
    seconds: Vec<f64>,
    pub characters: u64,
}

impl Answer {
    pub fn times(&self) -> impl Iterator<Item = Duration> {
        self.seconds
            .iter()
            .map(|seconds| Duration::from_secs_f64(*seconds))
    }
}

impl JupyterClient {
    /// Runs `code` in a running kernel, `warm` times without and then `times` times with the clock.
    pub fn run(
        &mut self,
        file: &Path,
        code: &str,
        warm: usize,
        times: usize,
    ) -> io::Result<Answer> {
        self.ask(json!({"run": code, "connection_file": file, "warm": warm, "times": times}))
    }

    /// From `start_new_kernel` to the result of `1+1`.
    pub fn start(&mut self) -> io::Result<Answer> {
        self.ask(json!({"start": KERNEL}))
    }

    fn ask(&mut self, command: Value) -> io::Result<Answer> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for JupyterClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A kernel as front ends start one, on Unix sockets: `python -m ipykernel_launcher -f FILE` with nothing around it, or
//! `heddle kernel serve -f FILE` in front of the same.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use heddle::protocol::ConnectionInfo;
use tempfile::TempDir;

pub struct BareKernel {
    pub info: ConnectionInfo,
    folder: TempDir,
    child: Child,
}

impl BareKernel {
    /// Starts the process; that it listens is for the client to find out.
    pub fn spawn(python: &Path) -> io::Result<BareKernel> {
        let mut command = Command::new(python);
        command.args(["-m", "ipykernel_launcher", "-f"]);
        BareKernel::start(command)
    }

    /// Starts the bridge, with a local kernel behind it.
    pub fn bridged(mut heddle: Command) -> io::Result<BareKernel> {
        heddle.args(["kernel", "serve", "--mode", "local", "-f"]);
        BareKernel::start(heddle)
    }

    fn start(mut command: Command) -> io::Result<BareKernel> {
        let folder = tempfile::tempdir()?;
        let prefix = folder.path().join("k");
        let info = ConnectionInfo::ipc(&prefix.to_string_lossy(), "key".into())
            .map_err(io::Error::other)?;
        let file = folder.path().join("connection.json");
        std::fs::write(&file, info.to_json())?;
        let child = command
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(BareKernel {
            info,
            folder,
            child,
        })
    }

    pub fn connection_file(&self) -> std::path::PathBuf {
        self.folder.path().join("connection.json")
    }
}

impl Drop for BareKernel {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone and reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

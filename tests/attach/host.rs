//! A kernel that somebody else started, and the folder where Jupyter keeps its connection file.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use heddle::kernel::{Client, Exchange};
use heddle::protocol::{Channel, ConnectionInfo};
use tokio::time::Instant;

use crate::support::kernels::{cell, printed};
use crate::support::process::runs;
use crate::support::world::{World, python, within};

/// A world with a runtime folder of its own.
pub fn world(api_base: &str) -> World {
    let world = World::new(api_base);
    let runtime = world.path("runtime");
    std::fs::create_dir(&runtime).unwrap();
    world.with("JUPYTER_RUNTIME_DIR", runtime.display())
}

/// Code that prints `begun` and goes on until a file is there, and the file.
pub fn until_exists(world: &World) -> (PathBuf, String) {
    let file = world.path("release");
    // A second for requests that were sent while it ran to be queued.
    let code = format!(
        "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({:?}):\n    time.sleep(0.05)\n\
         time.sleep(1)",
        file.to_str().unwrap()
    );
    (file, code)
}

/// Keeps the kernel busy with a cell of this client's until the file is there.
pub async fn occupied(world: &World, client: &Client) -> (PathBuf, Exchange) {
    let (file, code) = until_exists(world);
    let mut exchange = client.request(Channel::Shell, cell(&code));
    printed(&mut exchange, "begun").await;
    (file, exchange)
}

/// An ipykernel as a front end starts it. Dropped, it is killed.
pub struct Foreign {
    child: Child,
    pub file: PathBuf,
}

impl Foreign {
    /// Over tcp, its connection file named by `id`.
    pub async fn start(world: &World, id: &str) -> Foreign {
        Foreign::on(world.path(&format!("runtime/kernel-{id}.json"))).await
    }

    /// Over Unix sockets.
    pub async fn start_ipc(world: &World, id: &str) -> Foreign {
        let file = world.path(&format!("runtime/kernel-{id}.json"));
        let prefix = world.path("k");
        let key = "a key of its own".into();
        let info = ConnectionInfo::ipc(prefix.to_str().unwrap(), key).unwrap();
        std::fs::write(&file, info.to_json()).unwrap();
        Foreign::on(file).await
    }

    async fn on(file: PathBuf) -> Foreign {
        let child = Command::new(python().join("bin/python"))
            .args(["-m", "ipykernel_launcher", "-f"])
            .arg(&file)
            .env("PYDEVD_DISABLE_FILE_VALIDATION", "1")
            .env("IPYTHONDIR", file.with_extension("ipython"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let kernel = Foreign { child, file };
        within(Duration::from_secs(60), "a kernel", kernel.client()).await;
        kernel
    }

    pub fn connection(&self) -> Option<ConnectionInfo> {
        ConnectionInfo::from_json(&std::fs::read(&self.file).ok()?).ok()
    }

    /// Another client of it, once it is there.
    pub async fn client(&self) -> Client {
        loop {
            if let Some(connection) = self.connection()
                && let Ok(client) =
                    Client::connect(&connection, Instant::now() + Duration::from_secs(20)).await
            {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn lives(&self) -> bool {
        runs(self.pid())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Makes its file the newest of this machine.
    pub fn newest(&self, seconds: u64) {
        let file = std::fs::File::options().append(true).open(&self.file);
        let time = SystemTime::now() + Duration::from_secs(seconds);
        file.unwrap().set_modified(time).unwrap();
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A test may have ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

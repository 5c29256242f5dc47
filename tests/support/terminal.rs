//! The heddle binary, or another, in a pseudo-terminal: a person types, and reads the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::libc;
use nix::pty::{Winsize, openpty};

use super::world::{PATIENCE, World, eventually};

/// A program at a terminal. Dropped, it is killed.
pub struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How far the person has read, in bytes of [`all`](Self::all).
    read: usize,
}

impl Terminal {
    /// Starts `heddle` with these arguments in a terminal of 100 columns and 40 lines.
    pub fn start(world: &World, args: &[&str]) -> Terminal {
        Terminal::start_program(world, Path::new(env!("CARGO_BIN_EXE_heddle")), args)
    }

    /// Starts any program so.
    pub fn start_program(world: &World, program: &Path, args: &[&str]) -> Terminal {
        let size = Winsize {
            ws_row: 40,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(world.variables().iter().map(|(name, value)| (name, value)))
            .current_dir(world.desk())
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave);
        // SAFETY: setsid and ioctl are async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // The keys that send signals belong to the controlling terminal.
                match libc::ioctl(0, libc::TIOCSCTTY as _, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        // Its copies of the terminal's other end must go, or the screen never ends.
        drop(command);
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let growing = shown.clone();
        // Ends with the last process that has the terminal open.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                growing.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Terminal {
            child,
            keys,
            shown,
            read: 0,
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.press(text);
        self.press("\r");
    }

    /// Waits until `text` is shown, below what was waited for before, and gives everything down to it.
    pub async fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.all();
            let unread = &all[self.read..];
            if let Some(at) = unread.find(text) {
                self.read += at + text.len();
                return all[self.read - at - text.len()..self.read].to_owned();
            }
            assert!(Instant::now() < deadline, "no {text:?} in: {unread}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until this was shown at all, escape sequences included.
    pub async fn raw_until(&self, bytes: &str) {
        eventually(PATIENCE, bytes, || {
            let shown = self.shown.lock().unwrap();
            String::from_utf8_lossy(&shown).contains(bytes)
        })
        .await;
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Everything that was shown, without colours.
    pub fn all(&self) -> String {
        let shown = self.shown.lock().unwrap();
        let text = String::from_utf8_lossy(&shown).into_owned();
        anstream::adapter::strip_str(&text).to_string()
    }

    /// Whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        let settings = nix::sys::termios::tcgetattr(&self.keys).unwrap();
        settings
            .local_flags
            .contains(nix::sys::termios::LocalFlags::ECHO)
    }

    /// Everything that was shown, as the terminal got it.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits for the end of the process.
    pub async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(PATIENCE, "the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

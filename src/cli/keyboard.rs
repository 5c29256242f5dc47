//! The person at the terminal: Ctrl-C, and answers to `input()`.

use std::io::{BufRead, IsTerminal, Write};

use futures_util::future::BoxFuture;

use crate::executor::{Input, Interrupter, Interrupts, interrupts};

/// Turns Ctrl-C, and a request to terminate, into interrupts until the program ends.
pub fn watch() -> std::io::Result<(Interrupter, Interrupts)> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (interrupter, interrupts) = interrupts();
    let presses = interrupter.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = interrupt.recv() => presses.press(),
                Some(()) = terminate.recv() => presses.press(),
                else => return,
            }
        }
    });
    Ok((interrupter, interrupts))
}

/// Answers `input()` from standard input.
pub struct Keyboard {
    present: bool,
}

impl Keyboard {
    /// `reserved` says that standard input was used for something else, such as the code itself.
    pub fn new(reserved: bool) -> Keyboard {
        Keyboard { present: !reserved }
    }
}

impl Input for Keyboard {
    fn is_present(&self) -> bool {
        self.present
    }

    fn read(&mut self, prompt: String, password: bool) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || read_line(&prompt, password))
                .await
                .ok()
                .flatten()
        })
    }
}

fn read_line(prompt: &str, password: bool) -> Option<String> {
    let mut out = std::io::stderr();
    // A prompt that cannot be shown is no reason not to read the answer.
    let _ = write!(out, "{prompt}").and_then(|()| out.flush());
    let hidden = password && std::io::stdin().is_terminal();
    let echo = hidden.then(EchoOff::new);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if let Some(echo) = echo {
        drop(echo);
        let _ = writeln!(out);
    }
    match read {
        Ok(1..) => Some(line.trim_end_matches(['\n', '\r']).to_owned()),
        _ => None,
    }
}

/// Hides what is typed until it is dropped.
struct EchoOff(Option<nix::sys::termios::Termios>);

impl EchoOff {
    fn new() -> EchoOff {
        use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_flags.remove(LocalFlags::ECHO);
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &quiet);
        }
        EchoOff(before)
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = nix::sys::termios::tcsetattr(
                std::io::stdin(),
                nix::sys::termios::SetArg::TCSANOW,
                before,
            );
        }
    }
}

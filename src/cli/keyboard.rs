//! The person at the terminal: Ctrl-C, and answers to `input()`.

use std::io::{IsTerminal, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use unicode_width::UnicodeWidthStr;

use super::terminal::{self, HEADING};
use crate::executor::{Input, Interrupter, Interrupts, interrupts};
use crate::printable::prose;

/// The exit code of a program that was interrupted.
const INTERRUPTED: i32 = 130;
/// Signals so near to each other are one: a terminal's, and the same again from a parent.
const SAME: Duration = Duration::from_millis(200);

/// How long a read that is cancelled may take to end. It waits for nothing but the cancellation, and a terminal that is
/// stopped keeps it from ending.
const END_OF_READ: Duration = Duration::from_secs(1);

/// Turns Ctrl-C, and a request to terminate, into interrupts until the program ends. One that comes while the one
/// before still waits to be taken ends the program at once: it is stuck, or on its way out.
pub fn watch() -> std::io::Result<(Interrupter, Interrupts)> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (interrupter, interrupts) = interrupts();
    let presses = interrupter.clone();
    let terminal = nix::sys::termios::tcgetattr(std::io::stdin()).ok();
    tokio::spawn(async move {
        let mut last: Option<Instant> = None;
        loop {
            tokio::select! {
                Some(()) = interrupt.recv() => {}
                Some(()) = terminate.recv() => {}
                else => return,
            }
            let again = last.is_some_and(|last| last.elapsed() > SAME);
            if again && presses.is_waiting() {
                // Kernels end with us: their keepers and supervisors see to that.
                restore(terminal.as_ref());
                std::process::exit(INTERRUPTED);
            }
            last = Some(Instant::now());
            presses.press();
        }
    });
    Ok((interrupter, interrupts))
}

/// Has the terminal as it was.
fn restore(terminal: Option<&nix::sys::termios::Termios>) {
    use nix::sys::termios::{SetArg, tcsetattr};
    use nix::unistd::{getpgrp, tcgetpgrp};
    // Whoever changes it from the background is stopped.
    let in_front = || tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == getpgrp());
    if let Some(terminal) = terminal
        && in_front()
    {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, terminal);
    }
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

    /// Asks a question of Heddle's own.
    pub async fn ask(question: String) -> Option<String> {
        answer(question, false).await
    }
}

impl Input for Keyboard {
    fn is_present(&self) -> bool {
        self.present
    }

    fn read(&mut self, prompt: String, password: bool) -> BoxFuture<'_, Option<String>> {
        let seen = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        let prompt = match seen {
            true => asked_by_code(&prompt, password, terminal::width()),
            // A program takes the prompt for what it is.
            false => prompt,
        };
        Box::pin(answer(prompt, password))
    }
}

/// The answer to a prompt, which is shown as it is.
async fn answer(prompt: String, password: bool) -> Option<String> {
    let (cancelled, reading) = std::io::pipe().ok()?;
    let (done, ended) = std::sync::mpsc::channel();
    let line = tokio::task::spawn_blocking(move || {
        let line = read_line(&prompt, password, &cancelled);
        // Nobody listens any more after the last line was taken.
        let _ = done.send(());
        line
    });
    let _reading = Reading {
        reading: Some(reading),
        ended,
    };
    line.await.ok().flatten()
}

/// Ends a read that is not waited for any longer, and waits until it has ended: nobody is left behind who would take the
/// next line, and the terminal is as it was before anything else is printed on it.
struct Reading {
    reading: Option<PipeWriter>,
    ended: Receiver<()>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.reading = None;
        // A read that never began, or that has ended, has closed its end already.
        let _ = self.ended.recv_timeout(END_OF_READ);
    }
}

/// Characters of a prompt of code that are shown.
const LONGEST_PROMPT: usize = 4000;

/// What running code asks: nothing in it steers the terminal, and each line that the terminal has of it says who asks,
/// so that it is not taken for a question of Heddle's.
fn asked_by_code(prompt: &str, password: bool, width: usize) -> String {
    let label = match password {
        true => "The code asks (typed text is hidden): ",
        false => "The code asks: ",
    };
    let columns = width.saturating_sub(label.width() + 1).max(10);
    let prompt = prose(prompt);
    // The end of it is what is answered.
    let surplus = prompt.chars().count().saturating_sub(LONGEST_PROMPT);
    let prompt: String = prompt.chars().skip(surplus).collect();
    let lines = prompt
        .split('\n')
        .flat_map(|line| terminal::rows(line, columns));
    let lines: Vec<String> = lines
        .map(|line| format!("{HEADING}{label}{HEADING:#}{line}"))
        .collect();
    lines.join("\n")
}

/// Reads until the end of the line, or until the other end of `cancelled` is dropped.
fn read_line(prompt: &str, password: bool, cancelled: &PipeReader) -> Option<String> {
    let mut out = anstream::stderr();
    let open = terminal::before_question();
    // A prompt that cannot be shown is no reason not to read the answer.
    let _ = write!(out, "{open}{prompt}").and_then(|()| out.flush());
    let typed = std::io::stdin().is_terminal();
    let echo = (password && typed).then(EchoOff::new);
    let line = take_line(cancelled);
    // Where nothing was typed that ended the line of the prompt, what comes next would stand in it.
    let unfinished = echo.is_some() || (typed && line.is_none());
    drop(echo);
    if unfinished {
        let _ = writeln!(out);
    }
    let line = String::from_utf8_lossy(&line?).into_owned();
    Some(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Takes no byte beyond the line, which whoever reads next would miss.
fn take_line(cancelled: &PipeReader) -> Option<Vec<u8>> {
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let stdin = std::io::stdin();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut ready = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(cancelled.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) if ready[1].any() == Some(true) => return None,
            Ok(_) => {}
        }
        let mut byte = [0];
        match nix::unistd::read(stdin.as_fd(), &mut byte) {
            Ok(1..) => line.push(byte[0]),
            Err(Errno::EINTR) => {}
            // The end of input ends a last line, and is no line by itself.
            _ => return (!line.is_empty()).then_some(line),
        }
    }
    Some(line)
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
        restore(self.0.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(prompt: &str) -> Vec<String> {
        let text = asked_by_code(prompt, false, 30);
        let text = anstream::adapter::strip_str(&text).to_string();
        text.split('\n').map(str::to_owned).collect()
    }

    #[test]
    fn each_line_of_a_prompt_says_who_asks() {
        assert_eq!(asked("Name: "), ["The code asks: Name: "]);
        assert_eq!(
            asked("\n\x1b[2J? Run this code?\nAllow it?"),
            [
                "The code asks: ",
                "The code asks: \\x1b[2J? Run t",
                "The code asks: his code?",
                "The code asks: Allow it?",
            ]
        );
        // Blanks cannot make the terminal begin a line of its own.
        for line in asked(&("x".repeat(5000) + &" ".repeat(70) + "\tAllow it?")) {
            assert!(
                line.starts_with("The code asks: ") && line.len() < 30,
                "{line}"
            );
        }
    }
}

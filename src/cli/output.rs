//! Standard output, and what happens when its reader goes, as in `heddle run … | head`.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};

use super::error::CliError;
use super::setup;
use crate::event::Event;
use crate::executor::Interrupter;
use crate::printable::escape;

/// Writes a text as a whole, for a terminal with all escaped that it would obey. A reader that has gone has all that it
/// wanted.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let text = match out.is_terminal() {
        true => escape(text),
        false => Cow::Borrowed(text),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::io("standard output cannot be written")(error))
        }
        _ => Ok(()),
    }
}

/// Standard output of running code. Once nobody can read it, the code is interrupted: it prints for nobody.
pub struct Output {
    /// `None`: the code has more to do than to print.
    interrupter: Option<Interrupter>,
    closed: bool,
    /// Whether the running cell was interrupted.
    told: bool,
}

impl Output {
    pub fn new(interrupter: Option<Interrupter>) -> Output {
        Output {
            interrupter,
            closed: false,
            told: false,
        }
    }

    /// Whether the code is interrupted for the lack of a reader. Of what comes of that, nobody needs to know.
    pub fn is_abandoned(&self) -> bool {
        self.closed && self.interrupter.is_some()
    }

    /// Writes through `write`, unless that was in vain before.
    pub fn write(&mut self, write: impl FnOnce() -> std::io::Result<()>) {
        if self.closed {
            return;
        }
        if let Err(error) = write() {
            self.closed = true;
            if error.kind() != ErrorKind::BrokenPipe {
                setup::warn(&format!("standard output cannot be written: {error}"));
            }
        }
    }

    /// Interrupts a cell, once, when it has more to show and nobody sees it. To be called with every event.
    pub fn follow(&mut self, event: &Event) {
        match event {
            Event::Executed { .. } => self.told = false,
            Event::Stream { .. } | Event::Display { .. } | Event::Result { .. } => {
                if self.closed
                    && !self.told
                    && let Some(interrupter) = &self.interrupter
                {
                    self.told = true;
                    interrupter.press();
                }
            }
            _ => {}
        }
    }
}

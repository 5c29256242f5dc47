//! Presses of Ctrl-C, as the code that waits for a cell or a model sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Where presses come from. Kept by whoever listens for the signal.
#[derive(Clone)]
pub struct Interrupter {
    presses: watch::Sender<u64>,
    waiting: Arc<AtomicBool>,
}

/// Sees the presses that come after it was last looked at.
#[derive(Clone)]
pub struct Interrupts {
    presses: watch::Receiver<u64>,
    /// Whether there is a press that nobody has taken.
    waiting: Arc<AtomicBool>,
}

/// A connected pair.
pub fn interrupts() -> (Interrupter, Interrupts) {
    let (sender, receiver) = watch::channel(0);
    let waiting = Arc::new(AtomicBool::new(false));
    let interrupter = Interrupter {
        presses: sender,
        waiting: waiting.clone(),
    };
    let interrupts = Interrupts {
        presses: receiver,
        waiting,
    };
    (interrupter, interrupts)
}

impl Interrupter {
    pub fn press(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        self.presses.send_modify(|presses| *presses += 1);
    }

    /// Whether there is a press that nobody has taken.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }
}

impl Interrupts {
    /// Waits for the next press; for ever where nobody can press any more. Safe to cancel.
    pub async fn pressed(&mut self) {
        if self.presses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.waiting.store(false, Ordering::SeqCst);
    }

    /// Whether there is a press that nobody has taken.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Forgets presses that are meant for something that has ended.
    pub fn forget(&mut self) {
        self.presses.mark_unchanged();
        self.waiting.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_press_waits_until_somebody_takes_it() {
        let (interrupter, mut interrupts) = interrupts();
        assert!(!interrupter.is_waiting());
        interrupter.press();
        assert!(interrupter.is_waiting());
        interrupts.pressed().await;
        assert!(!interrupter.is_waiting());
        interrupter.press();
        interrupts.forget();
        assert!(!interrupter.is_waiting());
    }
}

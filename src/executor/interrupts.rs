//! Presses of Ctrl-C, as the code that waits for a cell or a model sees them.

use tokio::sync::watch;

/// Where presses come from. Kept by whoever listens for the signal.
#[derive(Clone)]
pub struct Interrupter(watch::Sender<u64>);

/// Sees the presses that come after it was last looked at.
#[derive(Clone)]
pub struct Interrupts(watch::Receiver<u64>);

/// A connected pair.
pub fn interrupts() -> (Interrupter, Interrupts) {
    let (sender, receiver) = watch::channel(0);
    (Interrupter(sender), Interrupts(receiver))
}

impl Interrupter {
    pub fn press(&self) {
        self.0.send_modify(|presses| *presses += 1);
    }
}

impl Interrupts {
    /// Waits for the next press; for ever where nobody can press any more. Safe to cancel.
    pub async fn pressed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets presses that are meant for something that has ended.
    pub fn forget(&mut self) {
        self.0.mark_unchanged();
    }
}

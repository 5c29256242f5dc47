//! What has come for one connection and was not taken yet: a window full of bytes at most.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::kernel::container::frame::WINDOW;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the sender was not given credit for again.
    uncredited: usize,
    ended: bool,
}

impl Inbox {
    /// Puts bytes in.
    ///
    /// # Errors
    /// Where the sender had no credit for them, or had said that no more would come.
    pub(super) fn push(&self, bytes: &[u8]) -> Result<(), &'static str> {
        let mut state = self.state();
        if state.ended {
            return Err("it sent data on a connection that it had closed");
        }
        if state.uncredited + bytes.len() > WINDOW {
            return Err("it sent more data than it was allowed to");
        }
        state.uncredited += bytes.len();
        state.waiting.extend(bytes);
        self.news.notify_one();
        Ok(())
    }

    /// No more will come.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.news.notify_one();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Waits for bytes and gives all that are there; none once there will be no more.
    pub(super) async fn pull(&self) -> Option<Vec<u8>> {
        loop {
            let news = self.news.notified();
            {
                let mut state = self.state();
                if !state.waiting.is_empty() {
                    return Some(std::mem::take(&mut state.waiting));
                }
                if state.ended {
                    return None;
                }
            }
            news.await;
        }
    }

    /// How many bytes the sender is to be told that it may send again, if it is time to.
    pub(super) fn credit(&self) -> Option<usize> {
        let mut state = self.state();
        let taken = state.uncredited - state.waiting.len();
        (taken >= WINDOW / 2).then(|| {
            state.uncredited -= taken;
            taken
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each critical section leaves valid data wherever it may end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_window_fits_and_no_more_until_credit_is_given() {
        let inbox = Inbox::default();
        inbox.push(&[1; WINDOW]).unwrap();
        assert!(inbox.push(&[1]).is_err());
        assert_eq!(inbox.credit(), None);
        assert_eq!(inbox.pull().await.unwrap().len(), WINDOW);
        assert!(inbox.push(&[1]).is_err(), "taken, but not told");
        assert_eq!(inbox.credit(), Some(WINDOW));
        inbox.push(&[1; WINDOW]).unwrap();
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_there_after_it() {
        let inbox = Inbox::default();
        inbox.push(b"last").unwrap();
        inbox.end();
        assert!(inbox.push(b"more").is_err());
        assert_eq!(inbox.pull().await.as_deref(), Some(&b"last"[..]));
        assert_eq!(inbox.pull().await, None);
    }
}

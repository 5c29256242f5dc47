//! Questions that the bridge itself asks the person at a front end, over stdin.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::front::Desk;
use crate::protocol::content::InputRequest;
use crate::protocol::{Content, RawMessage};

/// The one question that is open, if one is.
#[derive(Default)]
pub struct Questions(Mutex<Option<oneshot::Sender<String>>>);

impl Questions {
    /// Asks the client that sent `request`; `None` when the question is withdrawn. Safe to cancel.
    pub async fn ask(
        &self,
        desk: &Desk,
        request: &RawMessage,
        prompt: String,
        password: bool,
    ) -> Option<String> {
        let (answer, answered) = oneshot::channel();
        *self.lock() = Some(answer);
        desk.ask(request, InputRequest { prompt, password });
        answered.await.ok()
    }

    /// Takes a reply where a question is open; says whether it did. One open question at a time, as in a kernel.
    pub fn answer(&self, reply: &RawMessage) -> bool {
        let Some(answer) = self.lock().take_if(|answer| !answer.is_closed()) else {
            return false;
        };
        if let Content::InputReply(reply) = Content::decode("input_reply", &reply.content) {
            // Whoever asked may have been interrupted.
            let _ = answer.send(reply.value);
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<String>>> {
        // It holds one value, replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

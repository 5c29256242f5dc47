//! Questions that the bridge itself asks the person at a front end, over stdin.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::front::Desk;
use crate::protocol::content::InputRequest;
use crate::protocol::{Channel, Content, RawMessage};

/// How often it is looked whether the person is still there.
const LOOK: Duration = Duration::from_secs(1);

/// The one question that is open, if one is.
#[derive(Default)]
pub struct Questions(Mutex<Option<Open>>);

struct Open {
    /// The client that is asked.
    identities: Vec<Bytes>,
    /// The `msg_id` of the question.
    question: String,
    answer: oneshot::Sender<String>,
}

impl Questions {
    /// Asks the client that sent `request`; `None` when that has gone. Safe to cancel.
    pub async fn ask(
        &self,
        desk: &Desk,
        request: &RawMessage,
        prompt: String,
        password: bool,
    ) -> Option<String> {
        let (answer, mut answered) = oneshot::channel();
        let question = desk.reply(Channel::Stdin, request, InputRequest { prompt, password });
        *self.lock() = Some(Open {
            identities: request.identities.clone(),
            question,
            answer,
        });
        loop {
            tokio::select! {
                answer = &mut answered => return answer.ok(),
                () = tokio::time::sleep(LOOK) => {
                    if !desk.is_there(&request.identities) {
                        return None;
                    }
                }
            }
        }
    }

    /// Takes a reply to the open question, from the client that was asked; says whether it was one. Front ends may leave
    /// out what they reply to, but none names another question.
    pub fn answer(&self, reply: &RawMessage) -> bool {
        let parent = reply.parent_msg_id();
        let is_answer = |open: &mut Open| {
            !open.answer.is_closed()
                && open.identities == reply.identities
                && parent
                    .as_ref()
                    .is_none_or(|parent| *parent == open.question)
        };
        let Some(Open { answer, .. }) = self.lock().take_if(is_answer) else {
            return false;
        };
        if let Content::InputReply(reply) = Content::decode("input_reply", &reply.content) {
            // Whoever asked may have been interrupted.
            let _ = answer.send(reply.value);
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        // It holds one value, replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

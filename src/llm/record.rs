//! Writes every exchange down as one JSON line, for a later replay.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{
    BoxFuture, ChatMessage, ChatRequest, LlmError, Provider, Reply, Sink, StreamEvent, Usage,
};
use crate::open;

/// One line of a record. To be replayed, a line needs no more than `reply`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    #[serde(default)]
    pub model: String,
    /// Empty for a reply that suits every request.
    #[serde(default)]
    pub purpose: String,
    #[serde(default)]
    pub messages: Vec<ChatMessage>,
    pub reply: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
}

/// A provider that appends what another one is asked and answers to a file.
///
/// Failed exchanges leave nothing. The file is readable by its owner only, since conversations are private; keys
/// are not a part of an exchange.
#[derive(Debug)]
pub struct Recorder<P> {
    inner: P,
    path: PathBuf,
    file: Mutex<File>,
}

impl<P: Provider> Recorder<P> {
    /// Opens `path` for appending, or makes it.
    pub fn create(inner: P, path: impl Into<PathBuf>) -> Result<Recorder<P>, LlmError> {
        let path = path.into();
        match open_private(&path) {
            Ok(file) => Ok(Recorder {
                inner,
                path,
                file: Mutex::new(file),
            }),
            Err(error) => Err(LlmError::Record {
                path,
                reason: error.to_string(),
            }),
        }
    }

    async fn listen(&self, request: &ChatRequest, sink: &mut Sink<'_>) -> Result<Reply, LlmError> {
        let reply = self.inner.chat(request, &mut *sink).await?;
        // A reply that was paid for is worth more than its record.
        if let Err(error) = self.append(request, &reply) {
            let path = self.path.display();
            sink(StreamEvent::Notice(&format!(
                "this reply is not recorded in {path}: {error}"
            )));
        }
        Ok(reply)
    }

    fn append(&self, request: &ChatRequest, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Exchange {
            model: self.inner.model().to_owned(),
            purpose: request.purpose.clone(),
            messages: request.messages.clone(),
            reply: reply.text.clone(),
            usage: reply.usage,
            finish_reason: reply.finish_reason.clone(),
        })?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)
    }
}

impl<P: Provider> Provider for Recorder<P> {
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        sink: &'a mut Sink<'a>,
    ) -> BoxFuture<'a, Result<Reply, LlmError>> {
        Box::pin(self.listen(request, sink))
    }

    fn model(&self) -> &str {
        self.inner.model()
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    // Code may have put a link to any file of the person's there.
    if path.is_symlink() {
        let what = "it is a link, which is not followed: name the file that it leads to";
        return Err(io::Error::other(what));
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let file = open::output(&mut options, path)?;
    // An older file keeps the mode it was made with. Devices and pipes are left as they are.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

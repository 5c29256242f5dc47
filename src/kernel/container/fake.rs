//! An engine for tests: it says what it is told to say, and hangs where it is told nothing.

use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::Surroundings;

/// What every engine says of itself.
pub(crate) const VERSION: (&str, &str) = ("/version", r#"{"Version":"1","ApiVersion":"1.41"}"#);
pub(crate) const INFO: (&str, &str) = ("/info", "{}");

/// Ends when it is dropped.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// Answers requests by the end of their paths.
    pub(crate) fn start(answers: &'static [(&str, &str)]) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("a.sock")).unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, answers));
            }
        });
        Fake { folder, serving }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("a.sock")
    }

    /// Where it is the engine that is named.
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings {
            docker_host: Some(format!("unix://{}", self.socket().display())),
            ..Surroundings::default()
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(stream: UnixStream, answers: &[(&str, &str)]) {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).await.unwrap();
    let path = asked.split(' ').nth(1).unwrap_or_default();
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap() > 2 {
        line.clear();
    }
    match answers.iter().find(|(end, _)| path.ends_with(end)) {
        Some((_, body)) => {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        None => std::future::pending().await,
    }
}

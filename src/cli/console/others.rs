//! What other clients of the kernel do, shown as theirs.

use anstyle::Style;

use super::screen::{Screen, out_title};
use crate::cli::terminal::{CODE, DIM, error_text};
use crate::kernel::Client;
use crate::printable::{escape, escape_line};
use crate::protocol::{Content, Message};
use crate::transport::Popped;

/// Characters of a client's name, and of its session's id, that are shown.
const NAME: usize = 16;
const SESSION: usize = 4;

/// Shows it until the client is closed.
pub async fn show(client: Client, screen: Screen) {
    while let Some(popped) = client.others().await {
        match popped {
            Popped::Item(message) => message_of(&screen, message).await,
            Popped::Gap { messages, .. } => {
                let text = format!("[… {messages} messages of other clients are left out …]\n");
                screen.above("", DIM, &text).await;
            }
        }
    }
}

async fn message_of(screen: &Screen, message: Message) {
    let mark = mark(&message);
    match message.content {
        Content::ExecuteInput(input) => {
            screen.count(input.execution_count);
            let count = input.execution_count.unwrap_or_default();
            let text = format!("In [{count}]: {}\n", escape(input.code.trim_end()));
            screen.above(&mark, CODE, &text).await;
        }
        Content::Stream(stream) => screen.above(&mark, Style::new(), &stream.text).await,
        Content::ExecuteResult(result) => {
            let title = out_title(result.execution_count);
            screen.rich(&mark, &title, &result.data).await;
        }
        Content::DisplayData(display) => screen.rich(&mark, "", &display.data).await,
        Content::UpdateDisplayData(display) => screen.updated(&mark, &display.data).await,
        Content::Error(error) => {
            let text = error_text(&error.ename, &error.evalue, &error.traceback);
            let text = format!("{}\n", text.trim_end());
            screen.above(&mark, Style::new(), &text).await;
        }
        _ => {}
    }
}

/// Whose it is: the client's user and the beginning of its session's id, as they stand in the request's header.
fn mark(message: &Message) -> String {
    let name = match &message.parent_header {
        None => "kernel".to_owned(),
        Some(parent) => format!(
            "{} {}",
            plain(&parent.username, NAME),
            plain(&parent.session, SESSION)
        ),
    };
    format!("{DIM}[{}]{DIM:#} ", name.trim())
}

/// The beginning of a name of foreign origin.
fn plain(name: &str, length: usize) -> String {
    escape_line(name).chars().take(length).collect()
}

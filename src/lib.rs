//! Heddle runs the Python that a language model writes, in a Jupyter kernel, and answers from what it gave.
//!
//! # Layout
//! From the top down; a module imports what stands below it, never what stands above.
//!
//! - [`session`]: one conversation: event log, workspace, resume, export to a notebook
//! - [`llm`]: language models: a provider trait, one file per wire format, retries, record and replay
//! - [`config`]: settings: keys, the layers they come from, the source of each value
//! - [`protocol`]: Jupyter messages: framing, signing, content types; pure, no I/O
//! - [`notebook`]: Jupyter notebooks: read, run through, write; outputs collected from events
//! - [`event`]: what a session is made of, and what every renderer shows

pub mod config;
pub mod event;
pub mod llm;
pub mod notebook;
pub mod protocol;
pub mod session;

//! Heddle runs the Python that a language model writes, in a Jupyter kernel, and answers from what it gave.
//!
//! # Layout
//! From the top down; a module imports what stands below it, never what stands above.
//!
//! - [`cli`]: the command line: one file a subcommand
//! - [`doctor`]: what this machine can do, found out and explained
//! - [`bridge`]: the kernel that front ends start, with the agent in it
//! - [`conform`]: whether a kernel keeps to the Jupyter messaging protocol
//! - [`session`]: one conversation: event log, workspace, resume, export to a notebook
//! - [`agent`]: a Planner that directs, a CodeInterpreter that writes and runs Python
//! - [`executor`]: code in, a stream of events and an outcome out
//! - [`kernel`]: finding kernels, starting them, and everything that can happen to one until its end
//! - [`policy`]: static checks of Python code before it runs; pure, no I/O
//! - [`isolation`]: what keeps a kernel in its place
//! - [`transport`]: ZeroMQ sockets for both ends of the protocol
//! - [`notebook`]: Jupyter notebooks: read, run through, write; outputs collected from events
//! - [`protocol`]: Jupyter messages: framing, signing, content types; pure, no I/O
//! - [`llm`]: language models: a provider trait, one file per wire format, retries, record and replay
//! - [`config`]: settings: keys, the layers they come from, the source of each value
//! - [`folders`]: where Heddle keeps its own files
//! - [`open`]: files opened by name without waiting for another process
//! - `way`: where a path leads, link by link
//! - [`event`]: what a session is made of, and what every renderer shows
//! - [`printable`]: text of foreign origin made safe for a terminal

pub mod agent;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod conform;
pub mod doctor;
pub mod event;
pub mod executor;
pub mod folders;
mod held;
pub mod isolation;
pub mod kernel;
pub mod llm;
pub mod notebook;
pub mod open;
pub mod policy;
pub mod printable;
pub mod protocol;
pub mod session;
pub mod transport;
mod way;

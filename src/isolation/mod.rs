//! What keeps a kernel in its place: the supervisor that ends it, whatever happens to Heddle.

mod processes;
mod supervised;
pub mod supervisor;

pub use supervised::{Command, Exit, Signal, Supervised};

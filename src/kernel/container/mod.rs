//! The container mode: kernels in containers of a Docker-compatible engine of this machine.

mod context;
pub mod engine;
mod errand;
#[cfg(test)]
pub(crate) mod fake;
mod frame;
pub mod image;
mod init;
pub mod keeper;
mod launcher;
mod leftovers;
mod lent;
mod owner;
mod places;
mod problem;
mod reach;
mod relay;
mod running;
mod shown;

pub use engine::{Engine, Kind};
pub use launcher::Container;
pub use leftovers::{Leftover, find as leftovers, remove as remove_leftovers};
pub use places::Surroundings;
pub use problem::{EngineProblem, NamedBy};
pub use reach::{Reach, is_beside_us, sockets_are_apart};

//! The container mode: kernels in containers of a Docker-compatible engine of this machine.

pub mod engine;
mod places;
mod problem;

pub use engine::{Engine, Kind, find};
pub use places::Surroundings;
pub use problem::EngineProblem;

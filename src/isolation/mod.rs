//! What keeps a kernel in its place: the supervisor that ends it, whatever happens to Heddle.

#[cfg(target_os = "linux")]
mod loopback;
mod memory;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod privileges;
mod processes;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod seccomp;
mod supervised;
pub mod supervisor;

#[cfg(target_os = "linux")]
pub(crate) use mounts::bind_mapped;
#[cfg(target_os = "linux")]
pub use sandbox::{Sandbox, probe};
pub use supervised::{Command, Exit, Signal, Supervised};

/// The home folder inside a sandbox.
pub const HOME: &str = "/home/heddle";

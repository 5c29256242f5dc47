//! What keeps a kernel in its place: the supervisor that ends it, whatever happens to Heddle.

mod baseline;
#[cfg(target_os = "linux")]
pub mod cgroup;
mod folder;
pub mod itself;
pub(crate) mod kept;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
pub mod level;
#[cfg(target_os = "linux")]
mod loopback;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod privileges;
mod processes;
mod remedy;
pub mod resolve;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod scope;
#[cfg(target_os = "linux")]
mod seccomp;
#[cfg(target_os = "linux")]
mod sockets;
mod supervised;
pub mod supervisor;
#[cfg(target_os = "linux")]
mod throwaway;

pub use baseline::Baseline;
pub use folder::remove as remove_folder;
pub use kept::{Access, Kept};
#[cfg(target_os = "linux")]
pub use landlock::private_folders;
#[cfg(target_os = "linux")]
pub(crate) use mounts::bind_mapped;
pub use remedy::namespaces_remedy;
#[cfg(target_os = "linux")]
pub use sandbox::{RUN_FOLDER, Sandbox};
pub use supervised::{Command, Exit, Signal, Supervised};
#[cfg(target_os = "linux")]
pub use throwaway::Throwaway;

/// The user inside, where Heddle itself runs as root: no account of the host should have this number.
pub(crate) const STRANGER: u32 = 65_533;

/// The filter of system calls of the upper level, as the machine's kernel takes it.
#[cfg(target_os = "linux")]
pub(crate) fn filter_program() -> Vec<u8> {
    // The first process of a container watches it.
    seccomp::Filter::new(level::Level::Namespaces, 1).to_bytes()
}

/// The home folder inside a sandbox.
pub const HOME: &str = "/home/heddle";

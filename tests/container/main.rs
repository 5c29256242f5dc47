//! Kernels in containers: a real engine of the tests' own, real images, real kernels.
#![cfg(target_os = "linux")]

mod command_line;
mod confinement;
mod ends;
mod host;
mod images;
mod packages;
mod relay;
#[path = "working.rs"]
#[expect(clippy::duplicate_mod, reason = "the list is run both ways")]
mod relayed;
mod working;

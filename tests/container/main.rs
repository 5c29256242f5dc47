//! Kernels in containers: a real engine of the tests' own, real images, real kernels.
#![cfg(target_os = "linux")]

mod command_line;
mod confinement;
mod ends;
mod host;
mod images;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "this binary uses a part of it")]
mod place;
#[path = "../support/working.rs"]
mod working;

use host::everywhere;

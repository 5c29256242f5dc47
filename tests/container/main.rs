//! Kernels in containers: a real engine of the tests' own, real images, real kernels.
#![cfg(target_os = "linux")]

#[path = "../support/attacks.rs"]
mod attacks;
mod command_line;
mod confinement;
#[path = "../support/deaths.rs"]
mod deaths;
mod ends;
mod host;
mod images;
#[path = "../support/limits.rs"]
mod limits;
mod packages;
#[path = "../support/paths.rs"]
mod paths;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "this binary uses a part of it")]
mod place;
mod relay;
#[path = "../support/victim.rs"]
mod victim;
#[path = "../support/working.rs"]
mod working;

use host::everywhere;

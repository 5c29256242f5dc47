//! What a kernel can do, and cannot, in each mode and at each level: real kernels, as root and as an ordinary user.
#![cfg(target_os = "linux")]

#[path = "../support/attacks.rs"]
mod attacks;
#[path = "../support/deaths.rs"]
mod deaths;
mod interpreters;
#[path = "../support/limits.rs"]
mod limits;
#[path = "../support/paths.rs"]
mod paths;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "this binary uses a part of it")]
mod place;
mod signals;
mod users;
#[path = "../support/victim.rs"]
mod victim;
#[path = "../support/working.rs"]
mod working;

use users::everywhere;

//! What a kernel can do, and cannot, in each mode and at each level: real kernels, as root and as an ordinary user.
#![cfg(target_os = "linux")]

mod attacks;
mod host;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "this binary uses a part of it")]
mod place;
mod users;
#[path = "../support/working.rs"]
mod working;

use users::everywhere;

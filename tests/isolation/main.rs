//! What a kernel can do, and cannot, in each mode and at each level: real kernels, as root and as an ordinary user.
#![cfg(target_os = "linux")]

mod attacks;
mod host;
mod place;
mod working;

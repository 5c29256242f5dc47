//! What several test binaries stand on.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod conformance;
pub mod kernels;
pub mod model_server;
pub mod process;
pub mod roles;
pub mod scripted_kernel;
pub mod terminal;
pub mod world;
pub mod zmtp;

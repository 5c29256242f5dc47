//! What several test binaries stand on.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod model_server;
pub mod terminal;
pub mod world;

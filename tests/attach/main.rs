//! `heddle attach`: kernels that others started, joined by the real binary, at a terminal and without one.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod code;
mod console;
mod host;

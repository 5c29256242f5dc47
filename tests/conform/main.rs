//! `conform` on kernels: one that keeps to the protocol, one of another language, and one that was broken in many ways.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod foreign;
mod hostile;
mod relay;
mod report;

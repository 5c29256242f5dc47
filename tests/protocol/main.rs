//! Our ends of the protocol against other people's: ipykernel, jupyter_client and pyzmq, and peers that mean harm.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod client_role;
mod hostile_kernels;
mod kernel_role;
mod links;

//! Heddle as a kernel of real front ends, from the package index: Jupyter's own list of what a kernel must do, programs
//! that execute notebooks, a console in a terminal, and JupyterLab in a browser.
#![cfg(target_os = "linux")]

mod asking;
mod conformance;
mod console;
#[allow(dead_code, reason = "the container tests use the rest of it")]
#[path = "../container/host.rs"]
mod host;
mod jupyter;

mod lab;
mod notebooks;
#[path = "../support/place.rs"]
#[allow(dead_code, reason = "the container tests use it")]
mod place;
#[path = "../support/mod.rs"]
mod support;

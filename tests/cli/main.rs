//! The `heddle` command as a person meets it: the real binary, a real kernel, and what both leave behind.

mod ask;
mod check;
mod demo;
mod doctor;
mod heddle;
mod help;
mod kernels;
mod mounts;
mod notebooks;
mod python;
mod run;
mod run_faults;
mod runtime;
mod sessions;
mod settings;

//! The bridge, as its front ends find it: a real `heddle kernel serve` with a real kernel behind it.

#[path = "../support/mod.rs"]
mod support;

mod asks;
mod clients;
mod ends;
mod hostile;
mod served;
mod settings;

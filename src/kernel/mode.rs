//! Which launcher a mode means on this machine.

use std::sync::Arc;

use super::{KernelError, Launcher, Local};

/// The wish for a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The safest that this machine can do, and never `Local`.
    Auto,
    Sandbox,
    Local,
}

/// A launcher, and in a few words why it is this one.
pub struct Chosen {
    pub launcher: Arc<dyn Launcher>,
    pub because: String,
}

/// The launcher for a mode.
///
/// # Errors
/// [`KernelError::NoMode`] where this machine cannot do what was asked for. Nothing falls back to `Local`.
pub fn choose(mode: Mode) -> Result<Chosen, KernelError> {
    match mode {
        Mode::Local => Ok(Chosen {
            launcher: Arc::new(Local::new()?),
            because: "it was asked for".into(),
        }),
        Mode::Sandbox | Mode::Auto => sandbox().map_err(|reason| KernelError::NoMode {
            mode: "sandbox",
            reason,
        }),
    }
}

#[cfg(target_os = "linux")]
fn sandbox() -> Result<Chosen, String> {
    Ok(Chosen {
        launcher: Arc::new(super::Sandboxed::new()?),
        because: "this machine allows namespaces".into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn sandbox() -> Result<Chosen, String> {
    Err("it needs Linux".into())
}

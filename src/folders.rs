//! Heddle's own folders, by the XDG base directory specification. No grant to a kernel may contain one of them.

use std::path::PathBuf;

use etcetera::BaseStrategy;
use etcetera::base_strategy::Xdg;

/// The user's settings: `$XDG_CONFIG_HOME/heddle`. `None` without a home folder, as for all of these.
pub fn settings() -> Option<PathBuf> {
    base().map(|base| base.config_dir().join("heddle"))
}

/// What is made once and kept, such as Python environments and packages: `$XDG_DATA_HOME/heddle`.
pub fn data() -> Option<PathBuf> {
    base().map(|base| base.data_dir().join("heddle"))
}

/// What Heddle believes in later commands: logs and locks of sessions, trust: `$XDG_STATE_HOME/heddle`.
pub fn state() -> Option<PathBuf> {
    base()?.state_dir().map(|folder| folder.join("heddle"))
}

/// What can be made anew: `$XDG_CACHE_HOME/heddle`.
pub fn cache() -> Option<PathBuf> {
    base().map(|base| base.cache_dir().join("heddle"))
}

/// All of the above.
pub fn all() -> impl Iterator<Item = PathBuf> {
    [settings(), data(), state(), cache()].into_iter().flatten()
}

fn base() -> Option<Xdg> {
    Xdg::new().ok()
}

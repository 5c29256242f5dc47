//! The first process of a container: what it is started with, and what its end says.

use std::time::Duration;

use super::owner::Owner;

/// For `python -c`.
pub(super) const PROGRAM: &str = include_str!("../../../kernelspec/init.py");

/// How often it hears that whoever watches the container is alive.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// How long it hears nothing before it ends, and the container with it.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// The exit status of an end by silence.
pub(super) const SILENT: i32 = 193;

/// Where its arguments are in its command line, as `start.sh` makes it: PYTHON -I -S -c PROGRAM PYTHON CONTAINER OWNER.
const PROGRAM_AT: usize = 4;
const CONTAINER_AT: usize = 6;
const OWNER_AT: usize = 7;

/// Its arguments after the Python: the container's name, its owner, the silence in seconds that ends it (none where
/// nothing does), and the folder of sockets that it carries connections to (empty for none).
pub(super) fn arguments(container: &str, silence: Option<Duration>, folder: &str) -> [String; 4] {
    [
        container.to_owned(),
        Owner::here().as_str().to_owned(),
        silence.unwrap_or_default().as_secs().to_string(),
        folder.to_owned(),
    ]
}

//! Kernelspecs that start Heddle. Where a command has a kernel of its own to start, such a name stands for one in the
//! same place: a bridge behind a bridge would only hide where the code runs.

use std::path::PathBuf;

use crate::config::{KernelMode, Settings};
use crate::kernel::discovery;
use crate::kernel::python::Precautions;
use crate::protocol::KernelSpec;

/// How often one may name another.
const MOST: usize = 8;

/// Whether a kernelspec starts Heddle.
pub fn is_own(spec: &KernelSpec) -> bool {
    spec.argv.get(1..3) == Some(&["kernel".to_owned(), "serve".to_owned()])
}

/// What such a kernelspec was installed with.
struct Own {
    mode: Option<KernelMode>,
    kernel: Option<String>,
}

fn find(name: &str, prefixes: &[PathBuf], precautions: &Precautions) -> Option<Own> {
    let spec = discovery::find(name, prefixes, precautions)
        .ok()?
        .spec
        .ok()?;
    let option = |option: &str| {
        let mut values = spec.argv.iter().filter_map(|it| it.strip_prefix(option));
        values.next()
    };
    is_own(&spec).then(|| Own {
        mode: option("--mode=").and_then(KernelMode::of_name),
        kernel: option("--kernel=").map(str::to_owned),
    })
}

/// Puts what a kernelspec of Heddle's own stands for in its place, in the mode of the settings or its own, whichever is
/// stricter. Whether it was one: in `auto` mode its code runs where a model's would.
pub fn unfold(settings: &mut Settings, precautions: &Precautions) -> bool {
    let Some(name) = settings.kernel.name.clone() else {
        return false;
    };
    let prefixes = crate::kernel::prefixes(precautions);
    let mut next = Some(name);
    for count in 0..MOST {
        let own = next
            .as_deref()
            .and_then(|name| find(name, &prefixes, precautions));
        let Some(own) = own else {
            settings.kernel.name = next;
            return count > 0;
        };
        tighten(settings, own.mode);
        next = own.kernel;
    }
    settings.kernel.name = None;
    true
}

/// The same for a notebook, which was saved with a kernel of this name. It may be anybody's, so it chooses nothing.
pub fn of_notebook(settings: &mut Settings, name: &str, precautions: &Precautions) -> bool {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter();
    let active: Vec<PathBuf> = active
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .collect();
    let own = find(name, &active, precautions);
    if let Some(own) = &own {
        tighten(settings, own.mode);
    }
    own.is_some()
}

fn tighten(settings: &mut Settings, mode: Option<KernelMode>) {
    let now = &mut settings.execution_service.kernel_mode;
    if let Some(mode) = mode.filter(|mode| mode.strength() > now.strength()) {
        *now = mode;
    }
}

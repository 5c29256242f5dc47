//! Finding installed kernelspecs, where every Jupyter front end finds them.
//!
//! Source: jupyter_client "Making kernels for Jupyter", section "Kernel specs".

use std::path::{Path, PathBuf};

use super::KernelError;
use super::python::Precautions;
use crate::open;
use crate::protocol::KernelSpec;
use crate::protocol::kernelspec::is_valid_name;

/// An installed kernelspec.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The folder's name, by which the kernel is asked for.
    pub name: String,
    /// `resource_dir`: the folder with `kernel.json` and the logos.
    pub folder: PathBuf,
    /// The environment (`sys.prefix`) that a plain `python3` in it means: the one whose search path it was found on,
    /// else the one that kernels run in without `--kernel`.
    pub prefix: Option<PathBuf>,
    /// The specification, or why it cannot be used.
    pub spec: Result<KernelSpec, String>,
    /// What the program that it names is judged by at each start.
    pub precautions: Precautions,
}

/// A place on the search path.
struct Place {
    folder: PathBuf,
    prefix: Option<PathBuf>,
}

/// The search path, first place first: `JUPYTER_PATH`, the user's data folder, the environments given, the system.
/// The last environment given is the one whose Python is used for kernelspecs that stand in none.
fn search_path(prefixes: &[PathBuf]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |folder: PathBuf, prefix: Option<&PathBuf>| {
        places.push(Place {
            folder: folder.join("kernels"),
            prefix: prefix.cloned(),
        });
    };
    let own = prefixes.last();
    if let Some(paths) = std::env::var_os("JUPYTER_PATH") {
        std::env::split_paths(&paths).for_each(|path| add(path, own));
    }
    if let Some(folder) = user_data_folder() {
        add(folder, own);
    }
    for prefix in prefixes {
        add(prefix.join("share/jupyter"), Some(prefix));
    }
    for prefix in ["/usr/local", "/usr"] {
        let prefix = PathBuf::from(prefix);
        add(prefix.join("share/jupyter"), Some(&prefix));
    }
    places
}

/// Where Jupyter keeps the user's data, as jupyter_core's `jupyter_data_dir` finds it.
pub fn user_data_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("JUPYTER_DATA_DIR") {
        return Some(folder.into());
    }
    let home = PathBuf::from(set("HOME")?);
    if !cfg!(target_os = "macos") {
        let data = set("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
        return Some(data.join("jupyter"));
    }
    // Anything but a no asks for the folders that the platform recommends.
    let platform = set("JUPYTER_PLATFORM_DIRS").is_some_and(|value| {
        let value = value.to_string_lossy().to_lowercase();
        !["no", "n", "false", "off", "0", "0.0"].contains(&value.as_str())
    });
    Some(match platform {
        true => home.join("Library/Application Support/jupyter"),
        false => home.join("Library/Jupyter"),
    })
}

/// All kernelspecs of this machine, by name; where two have one name, the one found first.
pub fn list(prefixes: &[PathBuf], precautions: &Precautions) -> Vec<Installed> {
    let mut found: Vec<Installed> = Vec::new();
    for place in search_path(prefixes) {
        let entries = std::fs::read_dir(&place.folder).into_iter().flatten();
        for folder in entries.flatten().map(|entry| entry.path()) {
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let known = found
                .iter()
                .any(|kernel| kernel.name.eq_ignore_ascii_case(name));
            if !known && is_valid_name(name) && folder.join("kernel.json").is_file() {
                found.push(Installed {
                    name: name.to_ascii_lowercase(),
                    spec: read(&folder),
                    prefix: place.prefix.clone(),
                    folder,
                    precautions: precautions.clone(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The kernelspec of this name, which is not case-sensitive.
pub fn find(
    name: &str,
    prefixes: &[PathBuf],
    precautions: &Precautions,
) -> Result<Installed, KernelError> {
    let all = list(prefixes, precautions);
    match all
        .iter()
        .find(|kernel| kernel.name.eq_ignore_ascii_case(name))
    {
        Some(kernel) => Ok(kernel.clone()),
        None => Err(KernelError::NoSuchKernel {
            name: name.to_owned(),
            known: all.into_iter().map(|kernel| kernel.name).collect(),
        }),
    }
}

/// The largest `kernel.json` that is read, in bytes.
const LARGEST_SPEC: u64 = 1 << 20;

fn read(folder: &Path) -> Result<KernelSpec, String> {
    let file = open::read(&folder.join("kernel.json"), LARGEST_SPEC)
        .map_err(|error| format!("kernel.json cannot be read: {error}"))?;
    let spec = KernelSpec::from_json(&file).map_err(|error| error.to_string())?;
    match spec.argv.is_empty() {
        false => Ok(spec),
        true => Err("kernel.json has an empty argv".into()),
    }
}

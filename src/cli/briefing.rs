//! What the models are told of the place where their code runs, so that they plan for nothing that cannot work there.

use super::setup::policy;
use crate::config::Settings;
use crate::kernel::packages::Packages;
use crate::kernel::{Choice, Grants, Mount, python};

/// The most packages that a model is told of by name.
const MOST_NAMED: usize = 40;

/// What the models are told of the place where their code runs, and whether somebody `asks` leave for packages. The
/// same all day, for the sake of prompt caches.
pub fn environment(
    mode: &str,
    choice: &Choice,
    settings: &Settings,
    grants: &Grants,
    packages: Option<&Packages>,
    asks: bool,
) -> String {
    let mut text = match mode {
        "local" => "The code runs on the User's own computer with the User's permissions: touch nothing outside the \
                    working directory unless the User asked for it."
            .to_owned(),
        _ => {
            let network = match settings.execution_service.network {
                true => "with network access",
                false => "without any network: nothing can be downloaded from there",
            };
            format!(
                "The code runs isolated, {network}. It can write to its working directory and to temporary folders, \
                 and sees no other files of the User's{}.{}",
                granted(grants),
                limited(grants)
            )
        }
    };
    if let Some(limit) = settings.code_interpreter.timeout {
        text.push_str(&format!(" A run may take {} seconds.", limit.as_secs()));
    }
    if settings.code_interpreter.code_verification_on
        && let Ok(policy) = policy(settings)
    {
        text.push_str(&format!(" Code is checked before it runs. {policy}"));
    }
    let installed: Vec<String> = match choice {
        Choice::Python(python) => python::packages(&python.prefix)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        Choice::InImage { packages, .. } => packages.clone(),
        Choice::Installed(_) => Vec::new(),
    };
    if !installed.is_empty() {
        text.push_str(&format!(
            " Installed, among others: {}.",
            installed.join(", ")
        ));
    }
    if let Some(packages) = packages {
        text.push_str(&about_packages(packages, asks));
    }
    text.push_str(&format!(" Today is {}.", jiff::ZonedDateTime::now().date()));
    text
}

/// Which files are the exception.
fn granted(grants: &Grants) -> String {
    let project = grants.project.iter().map(|project| Mount {
        path: project.path.clone(),
        writable: false,
    });
    let mounts: Vec<Mount> = grants.mounts.iter().cloned().chain(project).collect();
    let shown = |mount: &Mount| match mount.writable {
        true => format!("{} (to write to)", mount.path.display()),
        false => format!("{} (to read)", mount.path.display()),
    };
    match &mounts[..] {
        [] => String::new(),
        mounts => {
            let shown: Vec<String> = mounts.iter().map(shown).collect();
            format!(" than {}", shown.join(", "))
        }
    }
}

fn limited(grants: &Grants) -> String {
    let mut text = format!(
        " It has {} MiB of memory and {} processes and threads",
        grants.memory >> 20,
        grants.processes
    );
    if grants.cpus > 0.0 {
        text.push_str(&format!(", {} CPUs", grants.cpus));
    }
    text + "."
}

/// What the models are told of packages: those that were added, and how more can be had.
fn about_packages(packages: &Packages, asks: bool) -> String {
    let pins = packages.pins().unwrap_or_default();
    let added = pins.iter().filter(|pin| pin.asked).map(|pin| &*pin.name);
    let added: Vec<&str> = added.take(MOST_NAMED).collect();
    let mut text = match added.is_empty() {
        true => String::new(),
        false => format!(" Added for this project: {}.", added.join(", ")),
    };
    text.push_str(match asks {
        true => {
            " Other packages can be had where they are worth it: import them, or write %pip install NAME on a line of \
             its own, and Heddle asks the User and installs them outside of the kernel. The User may refuse."
        }
        false => {
            " Other packages cannot be had in this session, because nobody is there who could allow it: plan without \
             them, and do not call pip."
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_are_told_what_the_mode_allows() {
        let mut settings = Settings::default();
        settings.code_interpreter.code_verification_on = true;
        settings.code_interpreter.allowed_modules = Some(vec!["pandas".into()]);
        settings.code_interpreter.blocked_functions = Some(vec!["open".into()]);
        let mount = |path: &str, writable| Mount {
            path: path.into(),
            writable,
        };
        let grants = Grants {
            mounts: vec![mount("/data", false), mount("/results", true)],
            memory: 2048 << 20,
            processes: 128,
            cpus: 2.0,
            ..Grants::default()
        };
        let choice = Choice::InImage {
            image: "mine:1".into(),
            packages: Vec::new(),
        };
        let told = environment("container", &choice, &settings, &grants, None, false);
        for part in [
            "without any network",
            "/data (to read), /results (to write to)",
            "2048 MiB of memory and 128 processes and threads, 2 CPUs",
            "Only these modules may be imported: pandas.",
            "These functions must not be called: open.",
        ] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
        let told = environment("local", &choice, &settings, &grants, None, false);
        assert!(!told.contains("/data") && told.contains("pandas"), "{told}");
    }
}

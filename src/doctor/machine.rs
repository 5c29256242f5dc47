//! Python, the sandbox, the disk.

use std::path::Path;

use tokio::time::Instant;

use super::Check;
use crate::config::{KernelMode, Settings};
use crate::isolation::namespaces_remedy;
use crate::kernel::container::{Engine, EngineProblem, Surroundings, engine, image};
use crate::kernel::mode::{self, Mode, Wanted};
use crate::kernel::python::{self, Precautions};
use crate::kernel::{discovery, prefixes};

/// Free space below which a session may not have enough.
const SCARCE: u64 = 1 << 30;

pub(super) fn python(precautions: &Precautions) -> Vec<Check> {
    let python = match python::find(precautions) {
        Ok(Some(python)) => {
            let whose = if python.managed {
                "made by Heddle"
            } else {
                "yours"
            };
            Check::pass(
                "Python",
                format!("{} ({whose})", python.executable.display()),
            )
        }
        Ok(None) => Check::warn(
            "Python",
            "no Python here has ipykernel; Heddle makes an environment when it first needs one",
            "heddle run -c 1",
        ),
        Err(error) => Check::fail(
            "Python",
            error.to_string(),
            "deactivate    (leaves the environment that is active)",
        ),
    };
    let broken: Vec<String> = discovery::list(&prefixes(precautions), precautions)
        .into_iter()
        .filter_map(|kernel| Some(format!("{}: {}", kernel.name, kernel.spec.err()?)))
        .collect();
    let mut checks = vec![python];
    if !broken.is_empty() {
        checks.push(Check::warn(
            "kernelspecs",
            broken.join("; "),
            "heddle kernel list",
        ));
    }
    checks
}

/// The engine that answers, or why none does, and what there is to say of it and of the kernel's image. It is given the
/// time that the start of a kernel would give it.
pub(super) async fn engine(
    surroundings: &Surroundings,
    settings: &Settings,
) -> (Result<Engine, EngineProblem>, Vec<Check>) {
    let by_name = wants(settings, KernelMode::Container);
    let patience = match by_name {
        true => engine::PATIENT,
        false => engine::QUICK,
    };
    let deadline = Instant::now() + patience;
    let lacking = |name, found: String, next: String| match by_name {
        true => Check::fail(name, found, next),
        false => Check::warn(name, found, next),
    };
    let fault = surroundings.fault().map(|fault| {
        let next = "mend that file    (docker info says how Docker's client reads it)";
        Check::warn("docker's settings", fault, next)
    });
    let unusable = |problem: EngineProblem, fault: Option<Check>| {
        let check = lacking("container engine", problem.to_string(), problem.remedy());
        let checks = std::iter::once(check).chain(fault).collect();
        (Err(problem), checks)
    };
    let engine = match engine::find(surroundings, patience).await {
        Ok(engine) => engine,
        Err(problem) => return unusable(problem, fault),
    };
    let found = format!(
        "{} {} at {}, API {}",
        engine.kind.name(),
        engine.version,
        engine.socket.display(),
        engine.api
    );
    let custom = settings.execution_service.custom_image.clone();
    let name = custom.clone().unwrap_or_else(image::own_name);
    let Ok(image) = tokio::time::timeout_at(deadline, image::find(&engine, &name)).await else {
        let socket = engine.socket;
        return unusable(EngineProblem::NoAnswer { socket, patience }, fault);
    };
    let image = match (image, custom) {
        (Ok(Some(_)), _) => Check::pass("image", name),
        (Ok(None), None) => lacking(
            "image",
            format!("{name} is not made yet"),
            image::how_to_get(&name),
        ),
        (Ok(None), Some(_)) => lacking(
            "image",
            format!("{name}, which execution_service.custom_image names, is not here"),
            image::how_to_get(&name),
        ),
        (Err(error), _) => lacking("image", error.to_string(), "docker info".into()),
    };
    let checks = [Check::pass("container engine", found), image];
    (Ok(engine), checks.into_iter().chain(fault).collect())
}

fn wants(settings: &Settings, mode: KernelMode) -> bool {
    settings.execution_service.kernel_mode == mode
}

pub(super) async fn sandbox(settings: &Settings) -> Check {
    match mode::choose(Mode::Sandbox, &Wanted::default()).await {
        Ok(chosen) => match chosen.shortcoming {
            None => Check::pass(
                "sandbox",
                format!("namespaces on a private root; {}", limits()),
            ),
            Some(shortcoming) => Check::warn("sandbox", shortcoming, userns_hint()),
        },
        Err(error) if wants(settings, KernelMode::Sandbox) => {
            Check::fail("sandbox", error.to_string(), userns_hint())
        }
        Err(error) => Check::warn("sandbox", error.to_string(), userns_hint()),
    }
}

/// Who keeps a sandbox to its limits.
fn limits() -> String {
    #[cfg(target_os = "linux")]
    {
        let available = crate::isolation::cgroup::available();
        if !available.is_empty() {
            let names: Vec<&str> = available.iter().map(|one| one.name()).collect();
            return format!("limits by a cgroup ({})", names.join(", "));
        }
    }
    "limits watched by Heddle, since no cgroup may be made here".to_owned()
}

fn userns_hint() -> String {
    namespaces_remedy()
        .unwrap_or("run Heddle where user namespaces are allowed, or install Docker")
        .into()
}

pub(super) fn disk(workspace: &Path) -> Check {
    // The folder itself may not be there yet.
    let existing = workspace.ancestors().find(|folder| folder.is_dir());
    let place = existing.unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(place) {
        Ok(stat) => {
            #[allow(clippy::unnecessary_cast, reason = "narrower on some systems")]
            let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
            let found = format!(
                "{} MiB free for sessions in {}",
                free >> 20,
                workspace.display()
            );
            match free < SCARCE {
                true => Check::warn(
                    "disk",
                    found,
                    "free some space, or set workspace.workspace_path",
                ),
                false => Check::pass("disk", found),
            }
        }
        Err(error) => Check::fail(
            "disk",
            format!("{} cannot be looked at: {error}", place.display()),
            "set workspace.workspace_path to a folder of yours",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::container::fake::{Fake, INFO, VERSION};

    #[tokio::test]
    async fn an_engine_that_does_not_find_the_image_in_time_does_not_answer() {
        let fake = Fake::start(&[VERSION, INFO]);
        let started = Instant::now();
        let (engine, checks) = super::engine(&fake.surroundings(), &Settings::default()).await;
        assert!(engine.is_err() && checks.len() == 1);
        assert!(checks[0].found.contains("does not answer"), "{checks:?}");
        assert!(started.elapsed() < 10 * engine::QUICK);
    }
}

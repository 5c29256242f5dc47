//! Whose a container is: the label by which Heddle knows its own, and those of a Heddle that has died.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};

use super::Engine;

/// How long the engine may take to list containers or images, or to remove one.
const ANSWER: Duration = Duration::from_secs(10);

/// On every container that Heddle starts. The value is its [`Owner`].
pub(super) const LABEL: &str = "heddle.owner";

/// A process, distinct from any that gets its number later, and from one that has the same number in another
/// container or machine that shares the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner(String);

impl Owner {
    /// This process.
    pub(super) fn here() -> Owner {
        let pid = std::process::id();
        Owner(format!(
            "{} {pid} {}",
            realm(),
            start_time(pid).unwrap_or_default()
        ))
    }

    /// As it was written somewhere.
    pub(super) fn of(text: &str) -> Owner {
        Owner(text.to_owned())
    }

    /// Whether it is certain that the process has ended: only one of the same realm can be looked for.
    pub(super) fn has_died(&self) -> bool {
        let mut parts = self.0.rsplitn(3, ' ');
        let (Some(start), Some(pid), Some(of)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let here = realm();
        let known = !here.is_empty() && of == here;
        known
            && pid
                .parse()
                .is_ok_and(|pid| start_time(pid).as_deref() != Some(start))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One boot of one machine, and one space of process numbers on it. Empty where that is not known.
fn realm() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let space = std::fs::read_link("/proc/self/ns/pid");
    match (boot, space) {
        (Ok(boot), Ok(space)) => format!("{} {}", boot.trim(), space.display()),
        _ => String::new(),
    }
}

/// When a process was started, in clock ticks since the boot; none where there is no such process.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold spaces. Field 22, of which two come before.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19).map(str::to_owned)
}

/// Containers that a Heddle of this machine has left behind, by name.
///
/// # Errors
/// What the engine said, or that it said nothing.
pub(super) async fn deserted(engine: &Engine) -> Result<Vec<String>, DockerError> {
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&HashMap::from([("label", vec![LABEL])]))
        .build();
    let containers = in_time(engine.docker.list_containers(Some(options))).await?;
    let left = containers.into_iter().filter_map(|container| {
        let owner = Owner::of(container.labels?.get(LABEL)?);
        owner.has_died().then_some(container.id)?
    });
    Ok(left.collect())
}

/// Removes what [`deserted`] has found; what is gone by itself meanwhile is as good.
pub(super) async fn remove(engine: &Engine, containers: &[String]) {
    for container in containers {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true);
        let removed = engine
            .docker
            .remove_container(container, Some(options.build()));
        // Who does not answer is not asked for the others.
        if let Err(DockerError::RequestTimeoutError) = in_time(removed).await {
            break;
        }
    }
}

/// What the engine answers, if it does.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, DockerError> {
    tokio::time::timeout(ANSWER, answer)
        .await
        .unwrap_or(Err(DockerError::RequestTimeoutError))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_with_its_number_before_it_does_not() {
        let here = Owner::here();
        assert!(!here.has_died());
        assert!(Owner(format!("{}0", here.as_str())).has_died());
        let elsewhere = here.as_str().replacen("pid:[", "pid:[9", 1);
        assert!(!Owner(format!("{elsewhere}0")).has_died());
        assert!(!Owner("nonsense".into()).has_died());
    }
}

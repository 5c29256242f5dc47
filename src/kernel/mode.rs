//! Which launcher a mode means on this machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::container::{
    Container, Engine, EngineProblem, Surroundings, engine, image, is_beside_us, sockets_are_apart,
};
use super::{KernelError, Launcher, Local};
use crate::config::Settings;

/// The wish for a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The safest that this machine can do, and never `Local`: a container, else the sandbox.
    Auto,
    Container,
    Sandbox,
    Local,
}

/// What is to be started, where that is a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The image to use as it is; Heddle's own where none is named.
    pub image: Option<String>,
    /// The Python in it.
    pub python: Option<String>,
    /// A kernelspec of this machine was asked for, which no container has.
    pub kernelspec: bool,
}

impl Wanted {
    /// What the settings say of it.
    pub fn of(settings: &Settings) -> Wanted {
        let service = &settings.execution_service;
        Wanted {
            image: service.custom_image.clone(),
            python: service.image_python.clone(),
            kernelspec: settings.kernel.name.is_some(),
        }
    }
}

/// A launcher, and in a few words why it is this one.
pub struct Chosen {
    pub launcher: Arc<dyn Launcher>,
    pub because: String,
    /// What it leaves open that a better one would not, and how to get that one; or what was passed over in the choice.
    pub shortcoming: Option<String>,
}

/// The launcher for a mode.
///
/// # Errors
/// [`KernelError::NoMode`] or [`KernelError::NoContainer`] where this machine cannot do what was asked for. What is
/// asked for by name never falls back to another, and nothing falls back to `Local`.
pub async fn choose(mode: Mode, wanted: &Wanted) -> Result<Chosen, KernelError> {
    match mode {
        Mode::Local => Ok(Chosen {
            launcher: Arc::new(Local::new()?),
            because: "it was asked for".into(),
            shortcoming: None,
        }),
        Mode::Sandbox => sandbox("it was asked for".into()).await,
        Mode::Container => container(&Surroundings::of_process(), wanted, engine::PATIENT)
            .await
            .map_err(|missing| KernelError::NoContainer {
                reason: missing.reason,
                remedy: missing.remedy,
            }),
        Mode::Auto => match container(&Surroundings::of_process(), wanted, engine::QUICK).await {
            Ok(chosen) => Ok(chosen),
            Err(missing) => {
                let because = format!(
                    "{} (heddle doctor says how to get a container)",
                    missing.reason
                );
                sandbox(because).await
            }
        },
    }
}

/// Why there is no container, and what to type to get one.
struct Missing {
    reason: String,
    remedy: String,
}

impl From<EngineProblem> for Missing {
    fn from(problem: EngineProblem) -> Missing {
        Missing {
            reason: problem.to_string(),
            remedy: problem.remedy(),
        }
    }
}

/// A container, of an engine that has said within `patience` that it is there and has the image.
async fn container(
    surroundings: &Surroundings,
    wanted: &Wanted,
    patience: Duration,
) -> Result<Chosen, Missing> {
    if wanted.kernelspec {
        return Err(Missing {
            reason: "a kernelspec of this machine is asked for, and a container has its own Python alone".into(),
            remedy: "leave out --kernel and kernel.name".into(),
        });
    }
    let deadline = Instant::now() + patience;
    let fault = surroundings.fault();
    let engine = engine::find(surroundings, patience)
        .await
        .map_err(|problem| {
            let missing = Missing::from(problem);
            match &fault {
                Some(fault) => Missing {
                    reason: format!("{}; {fault}", missing.reason),
                    ..missing
                },
                None => missing,
            }
        })?;
    let looked_up = async {
        let apart = sockets_are_apart()
            || engine.in_virtual_machine()
            || surroundings.in_container && !is_beside_us(&engine.socket).await;
        Ok((apart, find_image(&engine, wanted).await?))
    };
    let (apart, image) = tokio::time::timeout_at(deadline, looked_up)
        .await
        .unwrap_or_else(|_| {
            Err(Missing::from(EngineProblem::NoAnswer {
                socket: engine.socket.clone(),
                patience,
            }))
        })?;
    let because = format!("{} {} answers", engine.kind.name(), engine.version);
    let failed = |error: KernelError| Missing {
        reason: error.to_string(),
        remedy: "start the installed heddle".into(),
    };
    let socket = engine.socket.display().to_string();
    let mut launcher = Container::new(engine, image, wanted.python.clone()).map_err(failed)?;
    if apart {
        let reach = launcher.reaches_here().await.map_err(|reason| Missing {
            reason: format!("the container engine at {socket} cannot be used from here: {reason}"),
            remedy: "sudo apt install docker.io    (an engine that runs on this very system)"
                .into(),
        })?;
        launcher = launcher.reached_by(reach);
    }
    Ok(Chosen {
        launcher: Arc::new(launcher),
        because,
        shortcoming: fault,
    })
}

/// The image, if it is here. Nothing is pulled or built unasked.
async fn find_image(engine: &Engine, wanted: &Wanted) -> Result<image::Image, Missing> {
    let name = wanted.image.clone().unwrap_or_else(image::own_name);
    match image::find(engine, &name).await {
        Ok(Some(image)) => Ok(image),
        Ok(None) if wanted.image.is_some() => Err(Missing {
            reason: format!("the image {name}, which execution_service.custom_image names, is not here"),
            remedy: image::how_to_get(&name),
        }),
        Ok(None) => Err(Missing {
            reason: "a container engine answers, but the kernel's image is not made yet (heddle image build)".into(),
            remedy: "heddle image build    (once, about a minute)".into(),
        }),
        Err(error @ image::ImageError::NoName { .. }) => Err(Missing {
            reason: format!("execution_service.custom_image: {error}"),
            remedy: "heddle image list    (an image of your own: heddle image build --tag my-kernel:1)".into(),
        }),
        Err(error) => Err(Missing {
            reason: error.to_string(),
            remedy: "docker info    (shows what the engine lacks)".into(),
        }),
    }
}

#[cfg(target_os = "linux")]
async fn sandbox(because: String) -> Result<Chosen, KernelError> {
    // Its probe waits for a process.
    let sandboxed = tokio::task::spawn_blocking(super::Sandboxed::new)
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
    match sandboxed {
        Ok(sandboxed) => Ok(Chosen {
            because,
            shortcoming: sandboxed.shortcoming(),
            launcher: Arc::new(sandboxed),
        }),
        Err(reason) => Err(KernelError::NoMode {
            mode: "sandbox",
            reason,
        }),
    }
}

#[cfg(not(target_os = "linux"))]
async fn sandbox(_: String) -> Result<Chosen, KernelError> {
    Err(KernelError::NoMode {
        mode: "sandbox",
        reason: "it needs Linux".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::container::fake::{Fake, INFO, VERSION};
    use super::*;

    #[tokio::test]
    async fn an_engine_that_does_not_find_the_image_in_time_does_not_answer() {
        let fake = Fake::start(&[VERSION, INFO]);
        let started = Instant::now();
        let wanted = Wanted::default();
        let chosen = container(&fake.surroundings(), &wanted, engine::QUICK).await;
        let reason = chosen.err().unwrap().reason;
        assert!(reason.contains("does not answer (300 ms)"), "{reason}");
        assert!(started.elapsed() < 10 * engine::QUICK);
    }
}

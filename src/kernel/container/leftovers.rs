//! What is left of Heddles that have died: containers and early stages of images that an engine has, and what runs in
//! containers whose engine is not there to say so.

use std::fmt;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::RemoveImageOptions;

use super::{Engine, image, init, owner};

/// Something that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// By its id.
    Container(String),
    /// The early stage of a build, by its id. It may hold certificates, and the address of a package index.
    Stage(String),
    /// The first process of a container that no engine knows here, by its number, and the container's name.
    Process(i32, String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Container(id) => write!(f, "container {id}"),
            Leftover::Stage(id) => write!(f, "image {id}"),
            Leftover::Process(pid, name) => {
                write!(
                    f,
                    "process {pid}, which is container {name} without an engine"
                )
            }
        }
    }
}

/// What is left on this machine, and in the engine, if there is one.
///
/// # Errors
/// What the engine said, or that it said nothing.
pub async fn find(engine: Option<&Engine>) -> Result<Vec<Leftover>, DockerError> {
    let mut left = Vec::new();
    if let Some(engine) = engine {
        let containers = owner::deserted(engine).await?.into_iter();
        let stages = image::deserted_stages(engine).await?.into_iter();
        left.extend(containers.map(Leftover::Container));
        left.extend(stages.map(Leftover::Stage));
    }
    for (pid, name) in init::deserted() {
        let known = match engine {
            Some(engine) => engine.docker.inspect_container(&name, None).await.is_ok(),
            None => false,
        };
        if !known {
            left.push(Leftover::Process(pid, name));
        }
    }
    Ok(left)
}

/// Removes what was found; what is gone by itself meanwhile is as good.
pub async fn remove(engine: Option<&Engine>, left: &[Leftover]) {
    for left in left {
        if let Leftover::Process(pid, name) = left {
            init::kill(*pid, name);
        }
    }
    let Some(engine) = engine else { return };
    let containers: Vec<String> = left
        .iter()
        .filter_map(|left| match left {
            Leftover::Container(id) => Some(id.clone()),
            Leftover::Stage(_) | Leftover::Process(..) => None,
        })
        .collect();
    owner::remove(engine, &containers).await;
    for left in left {
        if let Leftover::Stage(id) = left {
            // The engine does not let one go that a build works on.
            let removed = engine
                .docker
                .remove_image(id, None::<RemoveImageOptions>, None);
            if let Err(DockerError::RequestTimeoutError) = owner::in_time(removed).await {
                break;
            }
        }
    }
}

//! What an engine still has of Heddles that have died: containers, and early stages of images.

use std::fmt;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::RemoveImageOptions;

use super::{Engine, image, owner};

/// Something that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// By its id.
    Container(String),
    /// The early stage of a build, by its id. It may hold certificates, and the address of a package index.
    Stage(String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Container(id) => write!(f, "container {id}"),
            Leftover::Stage(id) => write!(f, "image {id}"),
        }
    }
}

/// What is left in the engine.
///
/// # Errors
/// What the engine said, or that it said nothing.
pub async fn find(engine: &Engine) -> Result<Vec<Leftover>, DockerError> {
    let containers = owner::deserted(engine).await?.into_iter();
    let stages = image::deserted_stages(engine).await?.into_iter();
    Ok(containers
        .map(Leftover::Container)
        .chain(stages.map(Leftover::Stage))
        .collect())
}

/// Removes what was found; what is gone by itself meanwhile is as good.
pub async fn remove(engine: &Engine, left: &[Leftover]) {
    let containers: Vec<String> = left
        .iter()
        .filter_map(|left| match left {
            Leftover::Container(id) => Some(id.clone()),
            Leftover::Stage(_) => None,
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

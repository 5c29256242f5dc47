//! Packages for a project's kernels, installed outside of them: wheels alone, pinned, in a folder that kernels only read.
//!
//! ```text
//! <data>/packages/<key>/                                   the key is the project's, by its real path
//!                       <tag>/current -> <generation>/     the tag is the Python's, such as cpython-312-…
//!                             <generation>/requirements.txt  what is there, pinned with hashes
//!                             <generation>/site/             what kernels import from
//! <project>/heddle-packages.txt                            pins that are proposed, and never installed unasked
//! ```
//! A change makes a new generation beside the old one and then moves the link, so that whoever reads sees either all
//! of it or nothing. The folder comes last on a kernel's path: what it holds can hide nothing of the environment.

mod interpreter;
mod lock;
mod names;
mod overlay;
mod pip;
mod proposal;
mod requirement;

pub use interpreter::{DRIVER, ELSEWHERE, Interpreter, SETTINGS, Said, collect};
pub use lock::Pin;
pub use names::{Candidate, package_of};
pub use proposal::{FILE as PROPOSAL, Proposal};
pub use requirement::Requirement;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Choice, Mount, python};
use crate::folders;
use interpreter::{Asked, Here};
use overlay::Staged;

/// Something to tell the person while packages are fetched.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Why packages cannot be had. Each message says what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    #[error(
        "{text:?} is not the plain name of a package. Names with extras and versions are taken, such as \
         uvicorn[standard] or scipy>=1.11; options, addresses and paths are not"
    )]
    NotPlain { text: String },
    #[error("packages cannot be added to this kernel: {0}")]
    NoPython(String),
    #[error(
        "the package index cannot be reached: {said}. Check the network; behind a proxy set HTTPS_PROXY, and for an \
         index of your own PIP_INDEX_URL"
    )]
    Offline { said: String },
    #[error("the package index has no package {name}. Check the spelling")]
    NoSuchPackage { name: String },
    #[error(
        "there is no ready-made package (wheel) of {wish} for this Python and machine. Building one would run its \
         code on this machine, so Heddle does not. Ask for another version or another package"
    )]
    NoWheel { wish: String },
    #[error(
        "this does not go together with what is installed:\n{said}\nAsk for another version, or remove what is in the way: heddle env remove"
    )]
    Conflict { said: String },
    #[error("pip failed: {said}")]
    Pip { said: String },
    #[error("{name} was not added to this project, so it cannot be removed. See: heddle env list")]
    NotThere { name: String },
    #[error(
        "{} is a link, or leads through one, and is not used. Remove it",
        path.display()
    )]
    Link { path: PathBuf },
    #[error(
        "{} has a line that is no pin of Heddle's: {line:?}. Those are NAME==VERSION --hash=sha256:…, as heddle env export \
         writes them",
        path.display()
    )]
    Proposal { path: PathBuf, line: String },
    #[error(
        "the package index has other files than those that are pinned:\n{said}\nNothing was installed. Add the packages by \
         name, where you trust the index: heddle env add NAME"
    )]
    Hash { said: String },
    #[error("{} has a line that is none of Heddle's: {line:?}. Remove its folder, then add the packages again", path.display())]
    Lock { path: PathBuf, line: String },
    #[error("{} cannot be used: {source}", path.display())]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl PackagesError {
    fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> PackagesError {
        let path = path.to_path_buf();
        move |source| PackagesError::Folder { path, source }
    }
}

/// The folder of the packages that belong to no project.
const NO_PROJECT: &str = "user";

/// The packages of one project for one Python.
#[derive(Clone, Debug)]
pub struct Packages {
    /// Without links.
    project: Option<PathBuf>,
    tag: String,
    /// What kernels get to see: it holds the folders of all Pythons.
    visible: PathBuf,
    folder: PathBuf,
    /// The interpreter whose pip knows what fits.
    python: Asked,
}

/// What came of a wish for packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Names and versions that are new, dependencies included.
    pub new: Vec<Pin>,
    /// Names of wishes that were there already, in the environment or in the overlay.
    pub present: Vec<String>,
}

impl Packages {
    /// The packages that a project keeps for the Python of this kernel; without a project those of the user. The folder
    /// is made if need be, so that a kernel that starts now sees what is added later.
    ///
    /// A kernel whose Python is not on this machine (in a container's image) has a tag of its own and another
    /// interpreter to ask: see [`Packages::at`].
    ///
    /// # Errors
    /// [`PackagesError::NoPython`] for kernels of other languages.
    pub fn of(project: Option<&Path>, choice: &Choice) -> Result<Packages, PackagesError> {
        let python = choice.interpreter().ok_or_else(|| {
            PackagesError::NoPython(format!("{} is no Python that can be asked", choice.name()))
        })?;
        let precautions = choice.precautions();
        let tag = python::tag(&python, &precautions).ok_or_else(|| {
            PackagesError::NoPython(format!("{} does not answer", python.display()))
        })?;
        let (python, beside) = match python::outside(&python, &tag, &precautions) {
            Some((python, beside)) => (Ok(python), beside),
            None => (Err(python), None),
        };
        Packages::at(project, &tag, Arc::new(Here { python, beside }))
    }

    /// The packages for Pythons of this tag, found and installed by one of them.
    ///
    /// # Errors
    /// Where the folder cannot be made, or is not where it seems to be.
    pub fn at(
        project: Option<&Path>,
        tag: &str,
        interpreter: Arc<dyn Interpreter>,
    ) -> Result<Packages, PackagesError> {
        let data = folders::data().ok_or_else(|| {
            PackagesError::NoPython("there is no home folder to keep packages in. Set HOME".into())
        })?;
        std::fs::create_dir_all(&data).map_err(PackagesError::folder(&data))?;
        let data = std::fs::canonicalize(&data).map_err(PackagesError::folder(&data))?;
        let project = match project {
            Some(project) => {
                let real = std::fs::canonicalize(project);
                Some(real.map_err(PackagesError::folder(project))?)
            }
            None => None,
        };
        let key = project.as_deref().map_or(NO_PROJECT.to_owned(), key);
        let visible = overlay::folder(&data, &["packages", &key])?;
        if project.is_none() {
            // Where earlier versions had them.
            let earlier = data.join("packages").join(tag);
            if earlier.is_dir() && !visible.join(tag).exists() {
                std::fs::rename(&earlier, visible.join(tag))
                    .map_err(PackagesError::folder(&earlier))?;
            }
        }
        let folder = overlay::folder(&visible, &[tag])?;
        Ok(Packages {
            project,
            tag: tag.to_owned(),
            visible,
            python: Asked {
                interpreter,
                folder: folder.clone(),
            },
            folder,
        })
    }

    /// What a kernel must see of the host, and not write.
    pub fn mount(&self) -> Mount {
        Mount {
            path: self.visible.clone(),
            writable: false,
        }
    }

    /// The folder that kernels import from. It is there once something was added.
    pub fn site(&self) -> PathBuf {
        overlay::current(&self.folder).join(overlay::SITE)
    }

    /// The packages that are there, in the order of their names.
    ///
    /// # Errors
    /// [`PackagesError::Lock`] where the lock file is not as Heddle wrote it.
    pub fn pins(&self) -> Result<Vec<Pin>, PackagesError> {
        let Some(generation) = overlay::used(&self.folder)? else {
            return Ok(Vec::new());
        };
        let path = generation.join(overlay::LOCK);
        let text = std::fs::read_to_string(&path).map_err(PackagesError::folder(&path))?;
        lock::read(&text).map_err(|line| PackagesError::Lock { path, line })
    }

    /// What the project proposes to install, where it does.
    ///
    /// # Errors
    /// [`PackagesError::Proposal`] where it is not as Heddle writes them.
    pub fn proposal(&self) -> Result<Option<Proposal>, PackagesError> {
        match &self.project {
            Some(project) => proposal::find(project, &self.tag),
            None => Ok(None),
        }
    }

    /// Writes the packages that are there into the project, as a proposal for whoever has it. Gives the file; `None`
    /// without a project.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn export(&self) -> Result<Option<PathBuf>, PackagesError> {
        let Some(project) = &self.project else {
            return Ok(None);
        };
        proposal::write(project, &self.tag, &self.pins()?).map(Some)
    }

    /// Those of the proposed pins that neither the environment nor the overlay has.
    ///
    /// # Errors
    /// Where the interpreter cannot be asked.
    pub async fn lacking(&self, proposed: &[Pin]) -> Result<Vec<Pin>, PackagesError> {
        let (installed, pins) = (pip::installed(&self.python).await?, self.pins()?);
        let is_there = |pin: &Pin| {
            let mut pins = pins.iter();
            installed.contains_key(&pin.name)
                || pins.any(|old| (&old.name, &old.version) == (&pin.name, &pin.version))
        };
        Ok(proposed
            .iter()
            .filter(|pin| !is_there(pin))
            .cloned()
            .collect())
    }

    /// Installs exactly these packages, in the place of others of the same names.
    ///
    /// # Errors
    /// Everything that can be wrong with them; what was there stays as it was.
    pub async fn install(&self, pins: &[Pin], progress: Progress<'_>) -> Result<(), PackagesError> {
        let staged = Staged::begin(&self.folder, progress).await?;
        let is_new = |name: &str| pins.iter().any(|pin| pin.name == name);
        let (gone, mut all): (Vec<Pin>, Vec<Pin>) =
            self.pins()?.into_iter().partition(|pin| is_new(&pin.name));
        staged.take_over(gone.iter())?;
        // pip checks all hashes or none.
        let (hashed, others): (Vec<Pin>, Vec<Pin>) =
            pins.iter().cloned().partition(|pin| pin.sha256.is_some());
        for (name, some) in [("hashed", hashed), ("others", others)] {
            if !some.is_empty() {
                let fresh = staged.path().join(name);
                pip::fetch(&self.python, staged.path(), &fresh, &some, progress).await?;
                staged.merge(&fresh)?;
            }
        }
        all.extend_from_slice(pins);
        all.sort_by(|one, other| one.name.cmp(&other.name));
        staged.publish(&lock::written(&all))
    }

    /// Those of the wishes that are not met by what is there. A wish for certain versions is taken for unmet.
    ///
    /// # Errors
    /// Where the interpreter cannot be asked.
    pub async fn missing(&self, wishes: &[Requirement]) -> Result<Vec<Requirement>, PackagesError> {
        let (installed, pins) = (pip::installed(&self.python).await?, self.pins()?);
        let unmet = |wish: &&Requirement| !wish.is_open() || !is_there(&installed, &pins, wish);
        Ok(wishes.iter().filter(unmet).cloned().collect())
    }

    /// Adds packages with what they need, all of them or none. Running kernels of the project see them at once.
    ///
    /// # Errors
    /// Everything that can be wrong with a wish; what was there stays as it was.
    pub async fn add(
        &self,
        wishes: &[Requirement],
        progress: Progress<'_>,
    ) -> Result<Added, PackagesError> {
        let staged = Staged::begin(&self.folder, progress).await?;
        let before = self.pins()?;
        let mut all = pip::resolve(&self.python, staged.path(), &before, wishes, progress).await?;
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let is_old = |pin: &&Pin| {
            let mut pins = before.iter();
            pins.any(|old| (&old.name, &old.version) == (&pin.name, &pin.version))
        };
        let new: Vec<Pin> = all.iter().filter(|pin| !is_old(pin)).cloned().collect();
        let keys: Vec<String> = wishes.iter().map(Requirement::key).collect();
        let present = keys
            .into_iter()
            .filter(|key| !new.iter().any(|pin| pin.name == *key));
        let present = present.collect();
        if all == before {
            return Ok(Added { new, present });
        }
        // What is there in the environment by now is not resolved again, and need not be here any more.
        let gone = before
            .iter()
            .filter(|pin| !all.iter().any(|kept| kept.name == pin.name));
        staged.take_over(gone)?;
        if !new.is_empty() {
            let fresh = staged.path().join("fresh");
            pip::fetch(&self.python, staged.path(), &fresh, &new, progress).await?;
            staged.merge(&fresh)?;
        }
        staged.publish(&lock::written(&all))?;
        Ok(Added { new, present })
    }

    /// Removes packages that were asked for, and what only they needed. Gives what is gone.
    ///
    /// # Errors
    /// [`PackagesError::NotThere`] for what nobody asked for.
    pub async fn remove(
        &self,
        wishes: &[Requirement],
        progress: Progress<'_>,
    ) -> Result<Vec<Pin>, PackagesError> {
        let staged = Staged::begin(&self.folder, progress).await?;
        let mut pins = self.pins()?;
        for wish in wishes {
            let mut asked = pins.iter_mut().filter(|pin| pin.asked);
            match asked.find(|pin| pin.name == wish.key()) {
                Some(pin) => (pin.asked, pin.extras) = (false, Vec::new()),
                None => return Err(PackagesError::NotThere { name: wish.key() }),
            }
        }
        let roots = pins.iter().filter(|pin| pin.asked).map(Pin::root);
        let needed = pip::needed(&self.python, &self.site(), roots).await?;
        let (kept, gone): (Vec<Pin>, Vec<Pin>) =
            pins.into_iter().partition(|pin| needed.contains(&pin.name));
        staged.take_over(gone.iter())?;
        staged.publish(&lock::written(&kept))?;
        Ok(gone)
    }
}

fn is_there(installed: &BTreeMap<String, String>, pins: &[Pin], wish: &Requirement) -> bool {
    let key = wish.key();
    installed.contains_key(&key) || pins.iter().any(|pin| pin.name == key)
}

/// The name of a project's folder: by its real path, in hexadecimal.
fn key(project: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(project.as_os_str().as_bytes());
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

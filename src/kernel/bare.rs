//! A kernel without a client of ours: its process and its connection, for whoever speaks on the wire itself.

use std::sync::Arc;

use super::folder::RunFolder;
use super::{KernelError, Options, Process, first, launch};
use crate::isolation::Signal;
use crate::protocol::{ConnectionInfo, KernelSpec};

/// A kernel's process that nobody has connected to. Dropping it ends it.
pub struct Bare {
    options: Options,
    spec: KernelSpec,
    resource_dir: std::path::PathBuf,
    folder: RunFolder,
    process: Arc<dyn Process>,
}

impl Bare {
    /// Starts the process; that it then fails is told by [`first`](Self::first).
    pub async fn start(options: Options) -> Result<Bare, KernelError> {
        let (spec, resource_dir) = options.choice.spec()?;
        let inside = |folder: &std::path::Path| options.launcher.inside(folder);
        let folder = RunFolder::create(options.transport, options.choice.name(), inside)?;
        let process = launch(&options, &spec, &resource_dir, &folder).await?;
        Ok(Bare {
            options,
            spec,
            resource_dir,
            folder,
            process,
        })
    }

    /// The first connection, made by `connect`; an error says how the process ended, if that is the reason.
    pub async fn first<T>(
        &self,
        connect: impl Future<Output = Result<T, KernelError>>,
    ) -> Result<T, KernelError> {
        first(&*self.process, connect).await
    }

    /// Ends the process, if it still runs, and starts another on the same connection file.
    pub async fn restart(&mut self) -> Result<(), KernelError> {
        self.kill().await;
        self.folder.write().map_err(|source| KernelError::Folder {
            path: self.folder.path().to_path_buf(),
            source,
        })?;
        self.process = launch(&self.options, &self.spec, &self.resource_dir, &self.folder).await?;
        Ok(())
    }

    /// Ends the process and waits until all of it is gone.
    pub async fn kill(&self) {
        self.process.signal(Signal::Kill);
        self.process.ended().await;
    }

    pub fn process(&self) -> &dyn Process {
        &*self.process
    }

    pub fn spec(&self) -> &KernelSpec {
        &self.spec
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn connection(&self) -> &ConnectionInfo {
        &self.folder.connection
    }
}

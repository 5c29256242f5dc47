//! `heddle kernel`: Heddle as a kernel of Jupyter front ends, and the kernels of this machine.

mod install;
mod keep;
mod list;
mod serve;
mod served;
mod share;

use clap::Subcommand;

use super::Global;
use super::error::{CliError, Exit};

#[derive(Subcommand)]
pub enum Kernel {
    /// Make Heddle a kernel that JupyterLab, VS Code and other front ends offer
    Install(install::Install),
    /// Remove a kernel that was installed with `heddle kernel install`
    Uninstall(install::Uninstall),
    /// The kernels that are installed, the one that is used without --kernel, and those that run
    List,
    /// Be the kernel of a front end, which starts this itself
    #[command(hide = true)]
    Serve(serve::Serve),
    /// Hold a session's kernel; `--keep` starts this itself
    #[command(hide = true)]
    Keep(keep::Keep),
    /// Give the kernel of a running session to other clients; `session connect` starts this itself
    #[command(hide = true)]
    Share(share::Share),
}

impl Kernel {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self {
            Kernel::Install(install) => install.run(global).await,
            Kernel::Uninstall(uninstall) => uninstall.run(),
            Kernel::List => list::run(global).await,
            Kernel::Serve(serve) => serve.run(global).await,
            Kernel::Keep(keep) => keep.run(global).await,
            Kernel::Share(share) => share.run(global).await,
        }
    }
}

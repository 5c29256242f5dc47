//! The process that started the bridge. With it, nobody is left who could end the bridge in an orderly way.

use nix::unistd::{Pid, getppid};

/// The environment variable that Jupyter's launchers name themselves in.
const NAMED: &str = "JPY_PARENT_PID";

/// Waits for the end of the process that started this one, or that says it did.
pub async fn gone() {
    let parent = getppid();
    let named = std::env::var(NAMED)
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| pid.as_raw() > 1);
    // An orphan of birth was meant to be one, unless somebody is named.
    let parent = Some(parent).filter(|pid| pid.as_raw() > 1);
    match (parent, named) {
        (Some(parent), Some(named)) if parent != named => {
            tokio::select! { () = end_of(parent) => {}, () = end_of(named) => {} }
        }
        (Some(pid), _) | (None, Some(pid)) => end_of(pid).await,
        (None, None) => std::future::pending().await,
    }
}

/// Waits for the end of a process. One that cannot be seen from here, as from inside a container, is not waited for.
#[cfg(target_os = "linux")]
async fn end_of(pid: Pid) {
    use nix::libc;
    use std::os::fd::{FromRawFd, OwnedFd};

    // SAFETY: takes two integers and gives a new descriptor, or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if descriptor < 0 {
        return match pid == getppid() {
            true => poll().await,
            false => std::future::pending().await,
        };
    }
    // SAFETY: the call has just made it, and nobody else has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    // SAFETY: the descriptor is owned by what it is registered with, and closed after it.
    match unsafe { tokio::io::unix::AsyncFd::register(descriptor) } {
        Ok(process) => drop(process.readable().await),
        Err(_) => poll().await,
    }
}

#[cfg(not(target_os = "linux"))]
async fn end_of(pid: Pid) {
    match pid == getppid() {
        true => poll().await,
        false => std::future::pending().await,
    }
}

/// Looks once a second whether the parent is still the same.
async fn poll() {
    let parent = getppid();
    while getppid() == parent {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

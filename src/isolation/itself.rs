//! What a process of Heddle's own asks of the machine before it does anything.

/// Sees to it that the ends of children are told, also where whoever has started this process does not want to know of
/// theirs and has left that to it (`SIGCHLD` ignored): children would end unseen.
pub fn hear_of_children() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default, in a process with one thread. It is refused for no signal like this one.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Keeps the memory of this process, which keys are in, out of core dumps and away from other programs of the user. What
/// it starts is not bound by this: a program that crashes in local mode leaves the dump that it would leave anywhere.
pub fn keep_memory() {
    // Fails for no value that it knows.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

//! Giving privileges up, between fork and exec: nothing here allocates.

use std::io;

use nix::libc;

use super::sandbox::{Identity, STRANGER};

/// Leaves this process without capabilities, without a way to get any back, and as the sandbox's user.
pub(super) fn give_up(identity: Identity) -> io::Result<()> {
    // SAFETY: plain system calls on values; the capability structures outlive their call.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // Capabilities that this machine does not know answer EINVAL, which ends the row.
        let mut capability = 0;
        while libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0 {
            capability += 1;
        }
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        if identity == Identity::Stranger {
            check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) as i32)?;
            check(libc::syscall(libc::SYS_setresgid, STRANGER, STRANGER, STRANGER) as i32)?;
            check(libc::syscall(libc::SYS_setresuid, STRANGER, STRANGER, STRANGER) as i32)?;
        }
        // Version 3: two words of effective, permitted and inheritable bits each.
        let header = [0x2008_0522_u32, 0];
        let none = [0_u32; 6];
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) as i32)
    }
}

/// Sets the limits that the kernel of the machine keeps by itself, and offers this process first where the machine
/// runs out of memory.
pub(super) fn limit(processes: u64) -> io::Result<()> {
    for (resource, value) in [(libc::RLIMIT_NPROC, processes), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit {
            rlim_cur: value,
            rlim_max: value,
        };
        // SAFETY: the limit outlives the call.
        check(unsafe { libc::setrlimit(resource, &limit) })?;
    }
    // SAFETY: the name is a C string, the text outlives its call, and the descriptor is ours.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
        check(file)?;
        let written = libc::write(file, c"1000".as_ptr().cast(), 4);
        libc::close(file);
        check(written as i32)
    }
}

fn check(result: i32) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

//! Giving privileges up. What is called between fork and exec allocates nothing.

use std::ffi::CStr;
use std::io;

use nix::libc;

use super::STRANGER;
use super::sandbox::Identity;

/// Leaves this process without capabilities, without a way to get any back, and as the sandbox's user.
pub(super) fn give_up(identity: Identity) -> io::Result<()> {
    // SAFETY: plain system calls on values; the capability structures outlive their call.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        if identity == Identity::Stranger {
            check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) as i32)?;
            check(libc::syscall(libc::SYS_setresgid, STRANGER, STRANGER, STRANGER) as i32)?;
            check(libc::syscall(libc::SYS_setresuid, STRANGER, STRANGER, STRANGER) as i32)?;
            count_alone()?;
        }
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
        // Version 3: two words of effective, permitted and inheritable bits each.
        let header = [0x2008_0522_u32, 0];
        let none = [0_u32; 6];
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) as i32)
    }
}

/// A user namespace of the stranger's own, so that the limit of processes, which is set afterwards, counts this kernel's
/// and not those of every kernel that runs as the stranger. Where it is refused they share the limit.
fn count_alone() -> io::Result<()> {
    // SAFETY: plain system calls on values. The change of user has closed this process's files in /proc to itself.
    unsafe {
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))?;
        if libc::unshare(libc::CLONE_NEWUSER) != 0 {
            return Ok(());
        }
    }
    write(c"/proc/self/setgroups", b"deny")?;
    write(c"/proc/self/uid_map", STRANGER_ALONE)?;
    write(c"/proc/self/gid_map", STRANGER_ALONE)
}

/// The map of a user namespace with the stranger alone.
const STRANGER_ALONE: &[u8] = b"65533 65533 1";

/// Sets the limits that the kernel of the machine keeps by itself.
pub(super) fn limit(processes: u64, file_size: u64) -> io::Result<()> {
    for (resource, value) in [
        (libc::RLIMIT_NPROC, processes),
        (libc::RLIMIT_FSIZE, file_size),
        (libc::RLIMIT_CORE, 0),
    ] {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the limit outlives the calls.
        unsafe {
            check(libc::getrlimit(resource, &mut limit))?;
            // What was narrower before cannot be widened.
            limit.rlim_max = limit.rlim_max.min(value);
            limit.rlim_cur = limit.rlim_max;
            check(libc::setrlimit(resource, &limit))?;
        }
    }
    Ok(())
}

/// The user's watches of files are counted outside of the user namespace too, so that a kernel that took all of them would
/// leave the user none. It gets a share of them, in the user namespace that this process has just made.
pub(super) fn share_watches() {
    const SHARE: u64 = 8;
    for (outside, inside) in [
        ("max_user_instances", "max_inotify_instances"),
        ("max_user_watches", "max_inotify_watches"),
    ] {
        let all = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{outside}"));
        let all = all.ok().and_then(|text| text.trim().parse::<u64>().ok());
        let share = (all.unwrap_or(0) / SHARE).max(1);
        // Refused where the settings of the machine are closed, as in a container; whose watches they are then is the
        // container's.
        let _ = std::fs::write(format!("/proc/sys/user/{inside}"), share.to_string());
    }
}

/// Offers this process first where the machine runs out of memory.
pub(super) fn offer() -> io::Result<()> {
    write(c"/proc/self/oom_score_adj", b"1000")
}

fn write(path: &CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: path and text outlive their calls, and the descriptor is ours.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY);
        check(file)?;
        let written = libc::write(file, text.as_ptr().cast(), text.len());
        let outcome = check(written as i32);
        libc::close(file);
        outcome
    }
}

fn check(result: i32) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_of_the_stranger() {
        let text = format!("{STRANGER} {STRANGER} 1");
        assert_eq!(STRANGER_ALONE, text.as_bytes());
    }
}

//! The system calls that a sandboxed kernel may not make: ways around the namespaces, and ways into other processes.
//!
//! A deny list, since Python with any library must run; the namespaces are the boundary, this closes doors in them.

use nix::libc;

/// Everything that is refused with EPERM.
#[rustfmt::skip]
const DENIED: &[libc::c_long] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd, libc::SYS_kcmp,
    libc::SYS_process_madvise,
    // Mounts and namespaces.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_unshare, libc::SYS_setns, libc::SYS_chroot,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount,
    libc::SYS_fspick, libc::SYS_mount_setattr,
    // Files by handle, past the mounts.
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    // Interfaces whose work is not seen by this filter, or that faults are often found in.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_bpf,
    libc::SYS_userfaultfd, libc::SYS_perf_event_open, libc::SYS_fanotify_init,
    // Keys, and memory that no limit of ours counts.
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_memfd_create, libc::SYS_memfd_secret,
    // The machine.
    libc::SYS_reboot, libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_syslog, libc::SYS_quotactl,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_vhangup, libc::SYS_lookup_dcookie,
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Numbers from here on are those of x32, which would name the same calls differently.
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`; arguments are 64 bits wide, and their low half comes first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

/// A filter program, ready to be installed after a fork.
pub(super) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    pub(super) fn new() -> Filter {
        let mut filter = Filter(Vec::new());
        filter.load(ARCH);
        filter.unless_equal(ARCHITECTURE, libc::SECCOMP_RET_KILL_PROCESS);
        filter.load(NUMBER);
        filter.at_least(X32, errno(libc::ENOSYS));
        for number in DENIED {
            filter.when_equal(*number as u32, errno(libc::EPERM));
        }
        // Its flags are behind a pointer; the C library then uses clone, whose flags can be seen.
        filter.when_equal(libc::SYS_clone3 as u32, errno(libc::ENOSYS));
        filter.when_argument_has(libc::SYS_clone, 0, NAMESPACES);
        // Typing into the terminal that Heddle was started from.
        filter.when_argument_is(libc::SYS_ioctl, 1, libc::TIOCSTI as u32);
        filter.when_argument_is(libc::SYS_ioctl, 1, libc::TIOCLINUX as u32);
        for family in [libc::AF_ALG, libc::AF_VSOCK, libc::AF_PACKET, libc::AF_KEY] {
            filter.when_argument_is(libc::SYS_socket, 0, family as u32);
        }
        filter.give(libc::SECCOMP_RET_ALLOW);
        filter
    }

    /// Installs the filter in this process, for good. Allocates nothing.
    pub(super) fn install(&self) -> std::io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as libc::c_ushort,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program outlives the call, and its length is that of the instructions.
        let installed = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &program,
            )
        };
        match installed {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        self.0.push(libc::sock_filter {
            code: code as libc::c_ushort,
            jt,
            jf,
            k,
        });
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    }

    fn give(&mut self, verdict: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    }

    fn when_equal(&mut self, value: u32, verdict: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, value);
        self.give(verdict);
    }

    fn unless_equal(&mut self, value: u32, verdict: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, value);
        self.give(verdict);
    }

    fn at_least(&mut self, value: u32, verdict: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, value);
        self.give(verdict);
    }

    /// EPERM for a call one of whose arguments has any of these bits.
    fn when_argument_has(&mut self, call: libc::c_long, n: u32, bits: u32) {
        self.argument_of(call, n);
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, bits);
        self.give(errno(libc::EPERM));
        self.load(NUMBER);
    }

    fn when_argument_is(&mut self, call: libc::c_long, n: u32, value: u32) {
        self.argument_of(call, n);
        self.when_equal(value, errno(libc::EPERM));
        self.load(NUMBER);
    }

    /// Loads an argument of `call`; other calls go on after the three instructions that follow.
    fn argument_of(&mut self, call: libc::c_long, n: u32) {
        self.push(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            3,
            call as u32,
        );
        self.load(argument(n));
    }
}

fn errno(number: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

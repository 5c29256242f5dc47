//! The system calls that a sandboxed kernel may not make: ways around the namespaces, and ways into other processes.
//!
//! A deny list, since Python with any library must run; the namespaces are the boundary, this closes doors in them.

use nix::libc;

use super::level::Level;

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
    libc::SYS_shmget, libc::SYS_msgget, libc::SYS_semget, libc::SYS_mq_open,
    // The machine.
    libc::SYS_reboot, libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_syslog, libc::SYS_quotactl,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_vhangup, libc::SYS_lookup_dcookie,
];

/// The same number on every architecture; not in every version of the C library.
const FCHMODAT2: libc::c_long = 452;

/// Calls with their argument that is the mode of a file.
#[rustfmt::skip]
const WITH_MODE: &[(libc::c_long, u32)] = &[
    (libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (FCHMODAT2, 2), (libc::SYS_openat, 3), (libc::SYS_mknodat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
];
/// Modes that lend the owner's or the group's rights. Nothing in the sandbox gains from them, but outside, where the
/// file is the user's, everybody who can reach it would.
const LENDING: u32 = libc::S_ISUID | libc::S_ISGID;

/// Calls with their argument that names a process or thread to signal, or its group to join.
#[rustfmt::skip]
const SIGNALS: &[(libc::c_long, u32)] = &[
    (libc::SYS_kill, 0), (libc::SYS_tkill, 0), (libc::SYS_tgkill, 0), (libc::SYS_tgkill, 1), (libc::SYS_setpgid, 1),
    (libc::SYS_rt_sigqueueinfo, 0), (libc::SYS_rt_tgsigqueueinfo, 0), (libc::SYS_pidfd_open, 0),
];
/// Commands by which a descriptor signals a process of the caller's choice: of `fcntl`, and of `ioctl`.
const OWNERS: &[(libc::c_long, u32)] = &[
    (libc::SYS_fcntl, libc::F_SETOWN as u32),
    (libc::SYS_fcntl, 15),     // F_SETOWN_EX
    (libc::SYS_ioctl, 0x8901), // FIOSETOWN
    (libc::SYS_ioctl, 0x8902), // SIOCSPGRP
];
/// Calls that change any process of the user's, with their argument that names it; 0 is the caller. Those of the
/// scheduler are left, since a thread calls them on itself by its number.
const OTHERS: &[(libc::c_long, u32)] = &[(libc::SYS_setpriority, 1), (libc::SYS_ioprio_set, 1)];
/// Calls that would slow the supervisor, which watches what is taken, with their argument that names it.
const SLOWING: &[(libc::c_long, u32)] = &[
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
];
/// Calls that can mean all processes of a user, with the value of their first argument that says so.
const OF_A_USER: &[(libc::c_long, u32)] = &[
    (libc::SYS_setpriority, libc::PRIO_USER),
    (libc::SYS_ioprio_set, 3), // IOPRIO_WHO_USER
];

/// The kinds of sockets whose memory the machine tells, and their protocols where there are many.
const FAMILIES: &[libc::c_int] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];
const PROTOCOLS: &[libc::c_int] = &[
    0,
    libc::IPPROTO_TCP,
    libc::IPPROTO_UDP,
    libc::IPPROTO_ICMP,
    libc::IPPROTO_ICMPV6,
];

/// Calls on attributes of files, by name or descriptor: no rule of Landlock is about them. Programs that copy them go on
/// without where a file system has none, which is the error they get.
#[rustfmt::skip]
const ATTRIBUTES: &[libc::c_long] = &[
    libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_getxattr, libc::SYS_lgetxattr,
    libc::SYS_fgetxattr, libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr, libc::SYS_removexattr,
    libc::SYS_lremovexattr, libc::SYS_fremovexattr,
    // setxattrat, getxattrat, listxattrat, removexattrat, file_getattr, file_setattr: the same numbers on every
    // architecture, and in few versions of the C library.
    463, 464, 465, 466, 468, 469,
];
/// Calls that watch files, which Landlock has no rule about either; programs look at them from time to time instead.
const WATCHES: &[libc::c_long] = &[
    libc::SYS_inotify_init1,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_inotify_init,
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
    /// `supervisor` is the one that watches the kernel, by its number there; 0 where there is none. At the lower level
    /// with what else is outside then: other programs' sockets, processes and files.
    pub(super) fn new(level: Level, supervisor: u32) -> Filter {
        let mut filter = Filter(Vec::new());
        filter.load(ARCH);
        filter.unless_equal(ARCHITECTURE, libc::SECCOMP_RET_KILL_PROCESS);
        filter.load(NUMBER);
        filter.at_least(X32, errno(libc::ENOSYS));
        for number in DENIED {
            filter.when_equal(*number as u32, errno(libc::EPERM));
        }
        // Their flags and modes are behind a pointer; the C library then uses those where they can be seen.
        filter.when_equal(libc::SYS_clone3 as u32, errno(libc::ENOSYS));
        filter.when_equal(libc::SYS_openat2 as u32, errno(libc::ENOSYS));
        filter.when_argument_has(libc::SYS_clone, 0, NAMESPACES);
        // Typing into the terminal that Heddle was started from.
        filter.when_argument_is(libc::SYS_ioctl, 1, libc::TIOCSTI as u32);
        filter.when_argument_is(libc::SYS_ioctl, 1, libc::TIOCLINUX as u32);
        filter.known_sockets();
        filter.limits_of_its_own();
        // A process that closes itself to others of its user could not be looked at. Nobody else here can look at it
        // either, so that it may believe to be closed: some programs insist on it.
        filter.of_call(libc::SYS_prctl, |block| {
            block.load(argument(0));
            block.when_equal(libc::PR_SET_DUMPABLE as u32, errno(0));
        });
        for (call, whose) in OF_A_USER {
            filter.when_argument_is(*call, 0, *whose);
        }
        if supervisor != 0 {
            for (call, n) in SLOWING {
                filter.when_argument_is(*call, *n, supervisor);
            }
        }
        for (call, n) in WITH_MODE {
            filter.when_argument_has(*call, *n, LENDING);
        }
        if let Level::Landlock(_) = level {
            filter.keep_inside(supervisor);
        }
        filter.give(libc::SECCOMP_RET_ALLOW);
        filter
    }

    /// What namespaces would keep inside. Unix sockets that are streams are left, since a kernel listens on them; a
    /// connection is what would reach another program.
    fn keep_inside(&mut self, supervisor: u32) {
        self.when_equal(libc::SYS_connect as u32, errno(libc::EPERM));
        // This error is the one after which ZeroMQ goes on without a list of the machine's networks.
        let unsupported = errno(libc::EOPNOTSUPP);
        self.unless_argument_is(
            libc::SYS_socket,
            0,
            u32::MAX,
            libc::AF_UNIX as u32,
            unsupported,
        );
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            // Flags share the argument with the type.
            self.unless_argument_is(call, 1, 0xf, libc::SOCK_STREAM as u32, unsupported);
        }
        // The supervisor's end would leave other processes of the kernel to themselves. Everybody, and the groups
        // that the supervisor is in, include it.
        let everybody = -1_i32 as u32;
        for (call, n) in SIGNALS {
            self.when_argument_is(*call, *n, supervisor);
        }
        for (call, command) in OWNERS {
            self.when_argument_is(*call, 1, *command);
        }
        for (call, n) in OTHERS {
            self.unless_argument_is(*call, *n, u32::MAX, 0, errno(libc::EPERM));
        }
        for target in [everybody, supervisor.wrapping_neg()] {
            self.when_argument_is(libc::SYS_kill, 0, target);
        }
        for number in ATTRIBUTES {
            self.when_equal(*number as u32, unsupported);
        }
        for number in WATCHES {
            self.when_equal(*number as u32, errno(libc::ENOSYS));
        }
    }

    /// Sockets whose buffers are counted, and no others.
    fn known_sockets(&mut self) {
        self.of_call(libc::SYS_socket, |block| {
            block.load(argument(0));
            block.unless_among(FAMILIES, errno(libc::EAFNOSUPPORT));
            let past_the_protocols = PROTOCOLS.len() as u8 + 2;
            let (inet, inet6) = (libc::AF_INET as u32, libc::AF_INET6 as u32);
            block.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, inet);
            block.push(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                0,
                past_the_protocols,
                inet6,
            );
            block.load(argument(2));
            block.unless_among(PROTOCOLS, errno(libc::EPROTONOSUPPORT));
        });
    }

    /// A process reads anybody's limits, and sets its own under the number 0: those of the supervisor are what it watches
    /// with.
    fn limits_of_its_own(&mut self) {
        self.of_call(libc::SYS_prlimit64, |block| {
            block.load(argument(0));
            block.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 5, 0, 0);
            block.load(argument(2));
            block.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 2, 0);
            block.load(argument(2) + 4);
            block.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, 0);
            block.give(errno(libc::EPERM));
        });
    }

    /// The program as it is in memory.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bytes = |one: &libc::sock_filter| {
            let mut bytes = one.code.to_ne_bytes().to_vec();
            bytes.extend([one.jt, one.jf]);
            bytes.extend(one.k.to_ne_bytes());
            bytes
        };
        self.0.iter().flat_map(bytes).collect()
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

    /// A verdict on a call whose argument, as far as `mask` goes, is anything else.
    fn unless_argument_is(
        &mut self,
        call: libc::c_long,
        n: u32,
        mask: u32,
        value: u32,
        verdict: u32,
    ) {
        self.push(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            4,
            call as u32,
        );
        self.load(argument(n));
        self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask);
        self.unless_equal(value, verdict);
        self.load(NUMBER);
    }

    /// Instructions for one call alone, which leave anything loaded.
    fn of_call(&mut self, call: libc::c_long, instructions: impl FnOnce(&mut Filter)) {
        let mut block = Filter(Vec::new());
        instructions(&mut block);
        block.load(NUMBER);
        let length = block.0.len() as u8;
        self.push(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            length,
            call as u32,
        );
        self.0.append(&mut block.0);
    }

    /// A verdict on what is loaded, unless it is one of these.
    fn unless_among(&mut self, values: &[libc::c_int], verdict: u32) {
        for (n, value) in values.iter().enumerate() {
            let past_the_others = (values.len() - n) as u8;
            self.push(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                past_the_others,
                0,
                *value as u32,
            );
        }
        self.give(verdict);
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

"""Names of the numbers that system calls take: O_CLOEXEC, AT_FDCWD, PROT_READ, SIGKILL.

The numbers are those of <linux/*.h> and <asm/*.h>; where machines differ, of each.
"""

from __future__ import annotations

from functools import lru_cache

from .formats import DECIMAL, HEXADECIMAL, OCTAL, POINTER, Format, Name

_ALL = 2**64 - 1

#: Names that stand for one bit each, or for some; those of more bits come first.
_BITS = {
    "open_flags": (
        "O_SYNC=0x101000 O_DSYNC=0x1000 O_CREAT=0x40 O_EXCL=0x80 O_NOCTTY=0x100 O_TRUNC=0x200 "
        "O_APPEND=0x400 O_NONBLOCK=0x800 O_ASYNC=0x2000 O_NOATIME=0x40000 O_CLOEXEC=0x80000 "
        "O_PATH=0x200000"
    ),
    "at_flags": (
        "AT_SYMLINK_NOFOLLOW=0x100 AT_SYMLINK_FOLLOW=0x400 AT_NO_AUTOMOUNT=0x800 "
        "AT_EMPTY_PATH=0x1000 AT_STATX_FORCE_SYNC=0x2000 AT_STATX_DONT_SYNC=0x4000 "
        "AT_RECURSIVE=0x8000"
    ),
    "unlink_flags": "AT_REMOVEDIR=0x200",
    "access_flags": "AT_SYMLINK_NOFOLLOW=0x100 AT_EACCESS=0x200 AT_EMPTY_PATH=0x1000",
    "access_mode": "R_OK=4 W_OK=2 X_OK=1",
    "rename_flags": "RENAME_NOREPLACE=1 RENAME_EXCHANGE=2 RENAME_WHITEOUT=4",
    "resolve_flags": (
        "RESOLVE_NO_XDEV=1 RESOLVE_NO_MAGICLINKS=2 RESOLVE_NO_SYMLINKS=4 RESOLVE_BENEATH=8 "
        "RESOLVE_IN_ROOT=0x10 RESOLVE_CACHED=0x20"
    ),
    "mmap_prot": (
        "PROT_READ=1 PROT_WRITE=2 PROT_EXEC=4 PROT_SEM=8 PROT_GROWSDOWN=0x1000000 "
        "PROT_GROWSUP=0x2000000"
    ),
    "mmap_flags": (
        "MAP_FIXED=0x10 MAP_ANONYMOUS=0x20 MAP_GROWSDOWN=0x100 MAP_DENYWRITE=0x800 "
        "MAP_EXECUTABLE=0x1000 MAP_LOCKED=0x2000 MAP_NORESERVE=0x4000 MAP_POPULATE=0x8000 "
        "MAP_NONBLOCK=0x10000 MAP_STACK=0x20000 MAP_HUGETLB=0x40000 MAP_SYNC=0x80000 "
        "MAP_FIXED_NOREPLACE=0x100000"
    ),
    "mremap_flags": "MREMAP_MAYMOVE=1 MREMAP_FIXED=2 MREMAP_DONTUNMAP=4",
    "msync_flags": "MS_ASYNC=1 MS_INVALIDATE=2 MS_SYNC=4",
    "namespace_flags": (
        "CLONE_NEWTIME=0x80 CLONE_VM=0x100 CLONE_FS=0x200 CLONE_FILES=0x400 CLONE_SIGHAND=0x800 "
        "CLONE_THREAD=0x10000 CLONE_NEWNS=0x20000 CLONE_SYSVSEM=0x40000 "
        "CLONE_NEWCGROUP=0x2000000 CLONE_NEWUTS=0x4000000 CLONE_NEWIPC=0x8000000 "
        "CLONE_NEWUSER=0x10000000 CLONE_NEWPID=0x20000000 CLONE_NEWNET=0x40000000"
    ),
    "clone_flags": (
        "CLONE_VM=0x100 CLONE_FS=0x200 CLONE_FILES=0x400 CLONE_SIGHAND=0x800 CLONE_PIDFD=0x1000 "
        "CLONE_PTRACE=0x2000 CLONE_VFORK=0x4000 CLONE_PARENT=0x8000 CLONE_THREAD=0x10000 "
        "CLONE_NEWNS=0x20000 CLONE_SYSVSEM=0x40000 CLONE_SETTLS=0x80000 "
        "CLONE_PARENT_SETTID=0x100000 CLONE_CHILD_CLEARTID=0x200000 CLONE_DETACHED=0x400000 "
        "CLONE_UNTRACED=0x800000 CLONE_CHILD_SETTID=0x1000000 CLONE_NEWCGROUP=0x2000000 "
        "CLONE_NEWUTS=0x4000000 CLONE_NEWIPC=0x8000000 CLONE_NEWUSER=0x10000000 "
        "CLONE_NEWPID=0x20000000 CLONE_NEWNET=0x40000000 CLONE_IO=0x80000000 "
        "CLONE_CLEAR_SIGHAND=0x100000000 CLONE_INTO_CGROUP=0x200000000"
    ),
    "socket_type": "SOCK_NONBLOCK=0x800 SOCK_CLOEXEC=0x80000",
    "socket_flags": "SOCK_NONBLOCK=0x800 SOCK_CLOEXEC=0x80000",
    "message_flags": (
        "MSG_OOB=1 MSG_PEEK=2 MSG_DONTROUTE=4 MSG_CTRUNC=8 MSG_TRUNC=0x20 MSG_DONTWAIT=0x40 "
        "MSG_EOR=0x80 MSG_WAITALL=0x100 MSG_CONFIRM=0x800 MSG_ERRQUEUE=0x2000 "
        "MSG_NOSIGNAL=0x4000 MSG_MORE=0x8000 MSG_WAITFORONE=0x10000 MSG_ZEROCOPY=0x4000000 "
        "MSG_FASTOPEN=0x20000000 MSG_CMSG_CLOEXEC=0x40000000"
    ),
    "mount_flags": (
        "MS_RDONLY=1 MS_NOSUID=2 MS_NODEV=4 MS_NOEXEC=8 MS_SYNCHRONOUS=0x10 MS_REMOUNT=0x20 "
        "MS_MANDLOCK=0x40 MS_DIRSYNC=0x80 MS_NOSYMFOLLOW=0x100 MS_NOATIME=0x400 "
        "MS_NODIRATIME=0x800 MS_BIND=0x1000 MS_MOVE=0x2000 MS_REC=0x4000 MS_SILENT=0x8000 "
        "MS_POSIXACL=0x10000 MS_UNBINDABLE=0x20000 MS_PRIVATE=0x40000 MS_SLAVE=0x80000 "
        "MS_SHARED=0x100000 MS_RELATIME=0x200000 MS_I_VERSION=0x800000 MS_STRICTATIME=0x1000000 "
        "MS_LAZYTIME=0x2000000"
    ),
    "umount_flags": "MNT_FORCE=1 MNT_DETACH=2 MNT_EXPIRE=4 UMOUNT_NOFOLLOW=8",
    "fallocate_mode": (
        "FALLOC_FL_KEEP_SIZE=1 FALLOC_FL_PUNCH_HOLE=2 FALLOC_FL_COLLAPSE_RANGE=8 "
        "FALLOC_FL_ZERO_RANGE=0x10 FALLOC_FL_INSERT_RANGE=0x20 FALLOC_FL_UNSHARE_RANGE=0x40"
    ),
    "wait_options": "WNOHANG=1 WUNTRACED=2 WCONTINUED=8 WNOWAIT=0x1000000",
    "random_flags": "GRND_NONBLOCK=1 GRND_RANDOM=2 GRND_INSECURE=4",
    "memfd_flags": "MFD_CLOEXEC=1 MFD_ALLOW_SEALING=2 MFD_HUGETLB=4",
    "flock_operation": "LOCK_SH=1 LOCK_EX=2 LOCK_NB=4 LOCK_UN=8",
    "read_flags": "RWF_HIPRI=1 RWF_DSYNC=2 RWF_SYNC=4 RWF_NOWAIT=8 RWF_APPEND=0x10",
}

#: Names of which one holds: the bits that tell, and what they are.
_CHOICES = {
    "open_flags": (3, "O_RDONLY=0 O_WRONLY=1 O_RDWR=2"),
    "at_fd": (_ALL, "AT_FDCWD=-100"),
    "access_mode": (_ALL, "F_OK=0"),
    "mmap_prot": (_ALL, "PROT_NONE=0"),
    "mmap_flags": (0xF, "MAP_SHARED=1 MAP_PRIVATE=2 MAP_SHARED_VALIDATE=3"),
    "socket_type": (
        0xF,
        "SOCK_STREAM=1 SOCK_DGRAM=2 SOCK_RAW=3 SOCK_RDM=4 SOCK_SEQPACKET=5 SOCK_PACKET=10",
    ),
    "socket_family": (
        _ALL,
        "AF_UNSPEC=0 AF_UNIX=1 AF_INET=2 AF_BRIDGE=7 AF_INET6=10 AF_KEY=15 AF_NETLINK=16 "
        "AF_PACKET=17 AF_RDS=21 AF_PPPOX=24 AF_CAN=29 AF_TIPC=30 AF_BLUETOOTH=31 AF_ALG=38 "
        "AF_VSOCK=40 AF_XDP=44",
    ),
    "shutdown_how": (_ALL, "SHUT_RD=0 SHUT_WR=1 SHUT_RDWR=2"),
    "whence": (_ALL, "SEEK_SET=0 SEEK_CUR=1 SEEK_END=2 SEEK_DATA=3 SEEK_HOLE=4"),
    "signal": (
        _ALL,
        "SIGHUP=1 SIGINT=2 SIGQUIT=3 SIGILL=4 SIGTRAP=5 SIGABRT=6 SIGBUS=7 SIGFPE=8 SIGKILL=9 "
        "SIGUSR1=10 SIGSEGV=11 SIGUSR2=12 SIGPIPE=13 SIGALRM=14 SIGTERM=15 SIGSTKFLT=16 "
        "SIGCHLD=17 SIGCONT=18 SIGSTOP=19 SIGTSTP=20 SIGTTIN=21 SIGTTOU=22 SIGURG=23 "
        "SIGXCPU=24 SIGXFSZ=25 SIGVTALRM=26 SIGPROF=27 SIGWINCH=28 SIGIO=29 SIGPWR=30 SIGSYS=31",
    ),
    "madvise": (
        _ALL,
        "MADV_NORMAL=0 MADV_RANDOM=1 MADV_SEQUENTIAL=2 MADV_WILLNEED=3 MADV_DONTNEED=4 "
        "MADV_FREE=8 MADV_REMOVE=9 MADV_DONTFORK=10 MADV_DOFORK=11 MADV_MERGEABLE=12 "
        "MADV_UNMERGEABLE=13 MADV_HUGEPAGE=14 MADV_NOHUGEPAGE=15 MADV_DONTDUMP=16 "
        "MADV_DODUMP=17 MADV_WIPEONFORK=18 MADV_KEEPONFORK=19 MADV_COLD=20 MADV_PAGEOUT=21 "
        "MADV_POPULATE_READ=22 MADV_POPULATE_WRITE=23 MADV_DONTNEED_LOCKED=24 MADV_COLLAPSE=25 "
        "MADV_HWPOISON=100",
    ),
    "fcntl_command": (
        _ALL,
        "F_DUPFD=0 F_GETFD=1 F_SETFD=2 F_GETFL=3 F_SETFL=4 F_GETLK=5 F_SETLK=6 F_SETLKW=7 "
        "F_SETOWN=8 F_GETOWN=9 F_SETSIG=10 F_GETSIG=11 F_OFD_GETLK=36 F_OFD_SETLK=37 "
        "F_OFD_SETLKW=38 F_SETLEASE=1024 F_GETLEASE=1025 F_NOTIFY=1026 F_DUPFD_CLOEXEC=1030 "
        "F_SETPIPE_SZ=1031 F_GETPIPE_SZ=1032 F_ADD_SEALS=1033 F_GET_SEALS=1034",
    ),
    "epoll_operation": (_ALL, "EPOLL_CTL_ADD=1 EPOLL_CTL_DEL=2 EPOLL_CTL_MOD=3"),
    "clock": (
        _ALL,
        "CLOCK_REALTIME=0 CLOCK_MONOTONIC=1 CLOCK_PROCESS_CPUTIME_ID=2 CLOCK_THREAD_CPUTIME_ID=3 "
        "CLOCK_MONOTONIC_RAW=4 CLOCK_REALTIME_COARSE=5 CLOCK_MONOTONIC_COARSE=6 "
        "CLOCK_BOOTTIME=7 CLOCK_REALTIME_ALARM=8 CLOCK_BOOTTIME_ALARM=9 CLOCK_TAI=11",
    ),
    "resource": (
        _ALL,
        "RLIMIT_CPU=0 RLIMIT_FSIZE=1 RLIMIT_DATA=2 RLIMIT_STACK=3 RLIMIT_CORE=4 RLIMIT_RSS=5 "
        "RLIMIT_NPROC=6 RLIMIT_NOFILE=7 RLIMIT_MEMLOCK=8 RLIMIT_AS=9 RLIMIT_LOCKS=10 "
        "RLIMIT_SIGPENDING=11 RLIMIT_MSGQUEUE=12 RLIMIT_NICE=13 RLIMIT_RTPRIO=14 "
        "RLIMIT_RTTIME=15",
    ),
}

#: The same, where each machine has its own; they come before the others.
_MACHINES = {
    ("open_flags", "x86_64"): (
        "O_TMPFILE=0x410000 O_DIRECT=0x4000 O_LARGEFILE=0x8000 O_DIRECTORY=0x10000 "
        "O_NOFOLLOW=0x20000"
    ),
    ("open_flags", "aarch64"): (
        "O_TMPFILE=0x404000 O_DIRECTORY=0x4000 O_NOFOLLOW=0x8000 O_DIRECT=0x10000 "
        "O_LARGEFILE=0x20000"
    ),
    ("mmap_flags", "x86_64"): "MAP_32BIT=0x40",
    ("mmap_prot", "aarch64"): "PROT_BTI=0x10 PROT_MTE=0x20",
}

#: Names that only filters need: what is compared under a mask.
_MASKS = (
    "O_ACCMODE=3 MAP_TYPE=0xf S_IFMT=0xf000 S_IFSOCK=0xc000 S_IFLNK=0xa000 S_IFREG=0x8000 "
    "S_IFBLK=0x6000 S_IFDIR=0x4000 S_IFCHR=0x2000 S_IFIFO=0x1000 S_ISUID=0x800 S_ISGID=0x400 "
    "S_ISVTX=0x200"
)

_BASES = {"mode": OCTAL, "dec": DECIMAL, "oct": OCTAL, "hex": HEXADECIMAL, "pointer": POINTER}

#: Which table an argument of a system call has: "name" of any call, or "call.name".
_ARGUMENTS = {
    **dict.fromkeys(("dfd", "olddfd", "newdfd", "from_dfd", "to_dfd"), "at_fd"),
    **dict.fromkeys(("execveat.fd", "open_by_handle_at.mountdirfd"), "at_fd"),
    **dict.fromkeys(("open.flags", "openat.flags", "mq_open.oflag"), "open_flags"),
    **dict.fromkeys(("pipe2.flags", "dup3.flags", "open_by_handle_at.flags"), "open_flags"),
    **dict.fromkeys(("access.mode", "faccessat.mode", "faccessat2.mode"), "access_mode"),
    "faccessat2.flags": "access_flags",
    "unlinkat.flag": "unlink_flags",
    **dict.fromkeys(("newfstatat.flag", "statx.flags", "linkat.flags"), "at_flags"),
    **dict.fromkeys(("fchownat.flag", "utimensat.flags", "execveat.flags"), "at_flags"),
    **dict.fromkeys(("fchmodat2.flags", "name_to_handle_at.flag"), "at_flags"),
    "renameat2.flags": "rename_flags",
    **dict.fromkeys(("mmap.prot", "mprotect.prot", "pkey_mprotect.prot"), "mmap_prot"),
    "mmap.flags": "mmap_flags",
    "mmap.off": "hex",
    **dict.fromkeys(("mmap.addr", "munmap.addr", "mremap.addr", "mremap.new_addr"), "pointer"),
    **dict.fromkeys(("mprotect.start", "madvise.start", "msync.start", "brk.brk"), "pointer"),
    "mremap.flags": "mremap_flags",
    "msync.flags": "msync_flags",
    "madvise.behavior": "madvise",
    "process_madvise.behavior": "madvise",
    "clone.clone_flags": "clone_flags",
    "unshare.unshare_flags": "namespace_flags",
    "setns.flags": "namespace_flags",
    **dict.fromkeys(("socket.family", "socketpair.family"), "socket_family"),
    **dict.fromkeys(("socket.type", "socketpair.type"), "socket_type"),
    "accept4.flags": "socket_flags",
    **{
        f"{call}.flags": "message_flags"
        for call in ("sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg")
    },
    "shutdown.how": "shutdown_how",
    "lseek.whence": "whence",
    **dict.fromkeys(("kill.sig", "tkill.sig", "tgkill.sig", "rt_sigaction.sig"), "signal"),
    **dict.fromkeys(("rt_sigqueueinfo.sig", "pidfd_send_signal.sig"), "signal"),
    "mount.flags": "mount_flags",
    "umount.flags": "umount_flags",
    "fallocate.mode": "fallocate_mode",
    **dict.fromkeys(("wait4.options", "waitid.options"), "wait_options"),
    "getrandom.flags": "random_flags",
    "memfd_create.flags": "memfd_flags",
    "flock.cmd": "flock_operation",
    "fcntl.cmd": "fcntl_command",
    "epoll_ctl.op": "epoll_operation",
    "which_clock": "clock",
    "timerfd_create.clockid": "clock",
    **{f"{call}.resource": "resource" for call in ("getrlimit", "setrlimit", "prlimit64")},
    **dict.fromkeys(("preadv2.flags", "pwritev2.flags"), "read_flags"),
}

#: And which a member of a struct has, whoever has the struct.
_MEMBERS = {
    "open_how.flags": "open_flags",
    "open_how.mode": "mode",
    "open_how.resolve": "resolve_flags",
    "clone_args.flags": "clone_flags",
    "clone_args.exit_signal": "signal",
    "kernel_clone_args.flags": "clone_flags",
    "kernel_clone_args.exit_signal": "signal",
    "file.f_flags": "open_flags",
    "open_flags.open_flag": "open_flags",
}

#: What a typedef alone says.
_TYPEDEFS = {"umode_t": "mode"}


def table_names() -> list[str]:
    """The names that ``--arg NAME:TABLE`` takes."""
    return sorted({*_BITS, *_CHOICES, "mode"})


def _pairs(text: str) -> list[tuple[str, int]]:
    return [(name, int(value, 0)) for name, value in (word.split("=") for word in text.split())]


@lru_cache(maxsize=64)
def names_of(table: str, machine: str) -> tuple[Name, ...]:
    """A table's names, in the order in which they are tried."""
    mask, choices = _CHOICES.get(table, (0, ""))
    found = [(mask, value & mask, name) for name, value in _pairs(choices)]
    for text in (_MACHINES.get((table, machine), ""), _BITS.get(table, "")):
        found += [(value, value, name) for name, value in _pairs(text)]
    if table == "clone_flags":  # its low byte is the signal that a child's end sends
        found += [(0xFF, value, name) for name, value in _pairs(_CHOICES["signal"][1])]
    return tuple(found)


def table_format(table: str, machine: str, size: int, signed: bool) -> Format | None:
    """How a table's numbers are printed; None: there is no such table.

    Args: size: bytes of the value. signed: whether its type has a sign.
    """
    if table in _BASES:
        return Format(_BASES[table], size, signed and table == "dec")
    names = names_of(table, machine)
    if not names:
        return None
    base = DECIMAL if table not in _BITS else HEXADECIMAL
    return Format(base, size, signed, names)


def table_of_argument(syscall: str, name: str, typedefs: tuple[str, ...]) -> str:
    """The table that an argument has by itself; "": none.

    Args: syscall: its name, "" of any other function. typedefs: of its type.
    """
    found = _ARGUMENTS.get(f"{syscall}.{name}", "") or _ARGUMENTS.get(name, "")
    return found or next((_TYPEDEFS[one] for one in typedefs if one in _TYPEDEFS), "")


def table_of_member(struct: str, member: str, typedefs: tuple[str, ...]) -> str:
    """The table that a struct's member has by itself; "": none."""
    found = _MEMBERS.get(f"{struct}.{member}", "")
    return found or next((_TYPEDEFS[one] for one in typedefs if one in _TYPEDEFS), "")


@lru_cache(maxsize=2)
def constants(machine: str) -> dict[str, int]:
    """Every name of every table and some more, with its number, as filters take them."""
    tables = {name: names_of(name, machine) for name in table_names()}
    del tables["clone_flags"]  # whose signals are cut to a byte
    found = dict(_pairs(f"{_MASKS} {_BITS['clone_flags']}"))
    for names in tables.values():
        found.update({name: value for _mask, value, name in names})
    found["AT_FDCWD"] = -100
    return found

"""Processes whose every call is known: threads, another user, a container and one inside it.

Each actor is forked, tells who it is, and at each cue makes its calls and tells each of them: the
system call, its arguments as the kernel got them, and the times before and after.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

CALLS = {
    "write": 1,
    "open": 2,
    "lseek": 8,
    "mmap": 9,
    "nanosleep": 35,
    "kill": 62,
    "epoll_ctl": 233,
    "openat": 257,
    "unlinkat": 263,
    "openat2": 437,
}
AT_FDCWD = -100
O_PATH = 0o10000000
RESOLVE_NO_SYMLINKS = 4
PR_SET_NAME = 15
PLAY = b"1"
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_REC, MS_PRIVATE = 16384, 1 << 18
CONTAINER = "5f" * 32
USER, GROUP = 1234, 4321
FLOOD = 20000
SLEEPS = (1, 3, 6, 12, 3, 6, 24)  # milliseconds
NESTED = 4  # the kernel allows no more
EPOLL_CTL_ADD = 1
SIGNAL = signal.SIGWINCH  # to itself
NOWHERE = 0x10000  # an address that is mapped nowhere
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

Script = Callable[["Thread"], None]


class Who(NamedTuple):
    """A thread, by its numbers in each pid namespace: the host's first, its own last."""

    comm: str
    pids: list[int]
    tids: list[int]
    uid: int
    gid: int
    cgroup: int
    cpus: list[int]


def name_thread(name: str) -> None:
    """Gives the calling thread its name."""
    LIBC.prctl(PR_SET_NAME, name.encode())


class Thread:
    """A thread of an actor: makes calls and keeps what they were."""

    def __init__(self, comm: str) -> None:
        self.comm = comm
        self.calls: list[dict[str, Any]] = []
        name_thread(comm)

    def who(self) -> Who:
        """Who it is, as the host's /proc says."""
        status = Path("/proc/thread-self/status").read_text().splitlines()
        numbers = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in status
                   if line.startswith(("NStgid:", "NSpid:"))}  # fmt: skip
        path = Path("/proc/self/cgroup").read_text().splitlines()[-1].partition("::")[2]
        inode = Path(f"/sys/fs/cgroup{path}").stat().st_ino
        cpus = sorted(os.sched_getaffinity(0))
        return Who(self.comm, numbers["NStgid:"], numbers["NSpid:"], os.getuid(), os.getgid(),
                   inode, cpus)  # fmt: skip

    def call(self, name: str, *arguments: Any, tell: Any = None) -> int:
        """Makes a system call; TELL: what is told of its arguments where they are pointers."""
        words = [word if isinstance(word, int) else ctypes.addressof(word) for word in arguments]
        longs = [ctypes.c_ulong(word) for word in words]
        record = {"call": name, "arguments": words, **(tell or {}), "before": time.monotonic_ns()}
        result = int(LIBC.syscall(CALLS[name], *longs))
        record["after"] = time.monotonic_ns()
        self.calls.append({**record, "result": result, "errno": ctypes.get_errno()})
        return result

    def open(
        self, path: bytes, flags: int, mode: int = 0, dfd: int = AT_FDCWD, old: bool = False
    ) -> int:
        """Opens PATH by openat, or by the old open."""
        place = ctypes.create_string_buffer(path)
        tell = {"path": os.fsdecode(path)}
        if old:
            return self.call("open", place, flags, mode, tell=tell)
        return self.call("openat", dfd, place, flags, mode, tell=tell)


def play(thread: Thread) -> None:
    """What most of them do: opens, writes and more, each of many kinds."""
    folder = thread.open(b"/", os.O_RDONLY | os.O_DIRECTORY)
    opens(thread, folder)
    writes(thread, folder)
    more(thread)
    sleeps(thread)
    nested(thread)


def opens(thread: Thread, folder: int) -> None:
    """Opens by every call, with every kind of path."""
    stem = f"/gt/{thread.comm}".encode()
    thread.open(stem, os.O_RDONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    thread.open(stem[1:] + b"/made", flags, 0o640, folder)
    thread.open(stem + b"/old", os.O_RDWR | os.O_NONBLOCK, old=True)
    how = (ctypes.c_uint64 * 3)(O_PATH | os.O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS)
    path = ctypes.create_string_buffer(stem + b"/two")
    tell = {"path": os.fsdecode(path.value), "how": list(how)}
    thread.call("openat2", AT_FDCWD, path, how, ctypes.sizeof(how), tell=tell)
    thread.open(stem + b'/\x1b[31m\n"quoted"\\ \xff \xc3\xa4', os.O_RDONLY)
    thread.open(stem + b"/" + b"long/" * 60, os.O_RDONLY)
    thread.open((stem + b"/" + b"x/" * 127)[:255], os.O_RDONLY)  # with its NUL just 256 bytes
    thread.open(b"", os.O_RDONLY)
    thread.call("openat", AT_FDCWD, 0, os.O_RDONLY, 0, tell={"path": None})
    thread.call("openat", AT_FDCWD, NOWHERE, os.O_RDONLY, 0, tell={"unreadable": True})


def writes(thread: Thread, folder: int) -> None:
    """Writes of many sizes to /dev/null, and one to what cannot be written."""
    null = thread.open(b"/dev/null", os.O_WRONLY)
    text = ctypes.create_string_buffer(f"from {thread.comm}".encode())
    for count in (0, 1, 4096, 4097, 70000, 2**31, 2**64 - 1):
        thread.call("write", null, text, count)
    thread.call("write", folder, text, 5000)


def more(thread: Thread) -> None:
    """Numbers with signs, six arguments, flags of other tables."""
    stem = f"/tmp/{thread.comm}".encode()
    file = thread.open(stem, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    os.ftruncate(file, 8 * mmap.PAGESIZE)
    thread.call("lseek", file, 5, os.SEEK_SET)
    thread.call("lseek", file, 2**64 - 3, os.SEEK_CUR)
    thread.call("lseek", 2**32 - 1, 0, os.SEEK_END)
    protection, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE
    thread.call("mmap", 0, mmap.PAGESIZE, protection, kind, file, 3 * mmap.PAGESIZE)
    thread.call("mmap", 0, 8192, mmap.PROT_READ, kind | mmap.MAP_ANONYMOUS, 2**64 - 1, 0)
    thread.call("kill", os.getpid(), SIGNAL)
    path = ctypes.create_string_buffer(stem)
    thread.call("unlinkat", AT_FDCWD, path, 0x200, tell={"path": os.fsdecode(path.value)})
    thread.call("unlinkat", AT_FDCWD, path, 0, tell={"path": os.fsdecode(path.value)})


def sleeps(thread: Thread) -> None:
    """Sleeps, by a call that nobody else makes."""
    for ms in SLEEPS:
        span = (ctypes.c_int64 * 2)(0, ms * 1_000_000)
        thread.call("nanosleep", span, 0, tell={"ns": ms * 1_000_000})


def nested(thread: Thread) -> None:
    """An epoll in an epoll, and so on: adding the last, the kernel looks at each by recursion."""
    polls = [select.epoll() for _ in range(NESTED + 1)]
    for inner, outer in zip(polls, polls[1:-1]):
        outer.register(inner, select.EPOLLIN)
    event = (ctypes.c_uint32 * 3)(select.EPOLLIN)
    thread.call("epoll_ctl", polls[-1].fileno(), EPOLL_CTL_ADD, polls[-2].fileno(), event)


def flood(thread: Thread) -> None:
    """Writes as fast as it can."""
    null = thread.open(b"/dev/null", os.O_WRONLY)
    number, one = CALLS["write"], ctypes.c_ulong(1)
    place = ctypes.create_string_buffer(1)
    for _ in range(FLOOD):
        LIBC.syscall(number, null, place, one)


def absent(thread: Thread) -> None:
    """Opens by a path in a page that is not there when the call begins."""
    file = thread.open(b"/tmp/gt-absent", os.O_RDWR | os.O_CREAT, 0o600)
    text = ctypes.create_string_buffer(b"/gt/absent")
    thread.call("write", file, text, ctypes.sizeof(text))
    for _ in range(3):
        where = thread.call("mmap", 0, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
        thread.call("openat", AT_FDCWD, where, os.O_RDONLY, 0, tell={"absent": "/gt/absent"})


class Actor:
    """A process of the cast, seen from its parent."""

    def __init__(self, reader: IO[str], cue: int) -> None:
        self._reader, self._cue = reader, cue
        line = reader.readline()
        assert line, "an actor ended before it was ready"
        self.threads = [Who(*each) for each in json.loads(line)]

    @property
    def pid(self) -> int:
        """Its process id on the host."""
        return self.threads[0].pids[0]

    def begin(self) -> None:
        """Gives it its cue."""
        os.write(self._cue, PLAY)

    def end(self) -> None:
        """Lets it end: with the first process of a container all in it would end before."""
        os.write(self._cue, b"2")

    def calls(self) -> list[dict[str, Any]]:
        """Waits until it is through; every call, with who made it."""
        told = json.loads(self._reader.readline())
        return [
            {**call, **who._asdict()} for who, calls in zip(self.threads, told) for call in calls
        ]


def _act(comms: list[str], script: Script, cue: int, told: int) -> None:
    """The actor's own part, act by act: the first of its threads is the process's main one."""
    threads = {comm: Thread(comm) for comm in comms}
    whos: dict[str, Who] = {}
    together = threading.Barrier(len(comms))
    goes_on = True

    def act(comm: str) -> None:
        nonlocal goes_on
        thread, leads = threads[comm], comm == comms[0]
        name_thread(comm)
        whos[comm] = thread.who()
        together.wait()
        if leads:
            _tell(told, [whos[each] for each in comms])
        while True:
            if leads:
                goes_on = os.read(cue, 1) == PLAY
            together.wait()
            if not goes_on:
                return
            name_thread(comm)
            script(thread)
            name_thread("done")  # what it does now is in no list
            together.wait()
            if leads:
                _tell(told, [threads[each].calls for each in comms])
                for each in threads.values():
                    each.calls = []

    others = [threading.Thread(target=act, args=(comm,)) for comm in comms[1:]]
    for other in others:
        other.start()
    act(comms[0])
    for other in others:
        other.join()


def _tell(descriptor: int, what: Any) -> None:
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def start(
    comms: list[str],
    script: Script = play,
    *,
    before: Callable[[], object] | None = None,
    cpu: int | None = None,
) -> Actor:
    """Forks an actor with these threads; BEFORE runs in it first, as a change of user."""
    told_reader, told = os.pipe()
    cue, cue_writer = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.close(cue_writer)
            # Under strace even an ignored signal interrupts a sleep, which goes on in another call.
            signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            if before is not None:
                before()
            _act(comms, script, cue, told)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(told)
    os.close(cue)
    return Actor(os.fdopen(told_reader), cue_writer)


def become_user() -> None:
    """Makes this process an ordinary user's."""
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(USER)


def enter_cgroup(folder: Path) -> None:
    """Makes a cgroup and moves this process into it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text("0")


def unshare(flags: int) -> None:
    """unshare(2)."""
    if LIBC.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def new_pid_namespace() -> None:
    """Goes on as the first process of a new pid namespace; the old one waits for it."""
    unshare(CLONE_NEWPID)
    _go_on_in_child()


def join_pid_namespace(pid: int) -> None:
    """Goes on as a process of PID's pid namespace; the old one waits for it, and ends as it."""
    with Path(f"/proc/{pid}/ns/pid").open() as file:
        if LIBC.setns(file.fileno(), CLONE_NEWPID):
            raise OSError(ctypes.get_errno(), "setns")
    _go_on_in_child()


def mount_proc() -> None:
    """Gives this process the /proc of its pid namespace, as a container has it."""
    unshare(CLONE_NEWNS)
    LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    if LIBC.mount(b"proc", b"/proc", b"proc", 0, None):
        raise OSError(ctypes.get_errno(), "mount /proc")


def _go_on_in_child() -> None:
    child = os.fork()
    if child:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: os.kill(child, number))
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)

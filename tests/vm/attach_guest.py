"""Runs in the guest: attaches by every way that needs a real kernel, and prints what ran, as JSON.

Arguments: the objects attach, struct_ops and freplace. Of each case: what it returned, or the
error's class, number and text.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from libbpf_ctypes import BpfError, BpfObject, Program

ATTACH, STRUCT_OPS, FREPLACE = sys.argv[1:4]
COOKIE = 0xFEED_FACE_CAFE_BEEF
CALL = "__x64_sys_getppid"

_cases: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    _cases[function.__name__] = function
    return function


class Loaded:
    """One program of a loaded object, its counters at zero."""

    def __init__(self, obj: BpfObject, name: str) -> None:
        self.obj = obj
        self.program: Program = obj.programs[f"on_{name}"]
        for counter in ("hits", "cookie", "sum"):
            obj.variables[counter].value = 0

    def value(self, name: str) -> int:
        number = self.obj.variables[name].value
        assert isinstance(number, int)
        return number

    def seen(self) -> list[int]:
        """How often it ran, and the last cookie."""
        return [self.value("hits"), self.value("cookie")]


#: What not every kernel or libbpf can load: each by itself. The others are loaded together.
ALONE = ("session", "uprobe_multi", "raw_cookie", "tcx", "netkit")


def load(names: Sequence[str], others: bool = False) -> BpfObject:
    """The object with these programs loaded, or all others."""
    obj = BpfObject.open(ATTACH)
    try:
        for program in obj.programs.values():
            program.autoload = (program.name[3:] in names) != others
        obj.variables["pid"].value = os.getpid()
        obj.load()
    except BaseException:
        obj.close()
        raise
    return obj


@functools.cache
def common() -> BpfObject:
    return load(ALONE, others=True)


@contextlib.contextmanager
def loaded(name: str) -> Iterator[Loaded]:
    if name not in ALONE:
        yield Loaded(common(), name)
        return
    with load([name]) as obj:
        yield Loaded(obj, name)


def open_null() -> None:
    os.close(os.open("/dev/null", os.O_RDONLY))


def ran(
    name: str, attach: Callable[[Program], Any], call: Callable[[], object] = os.getppid
) -> list[int]:
    """[runs, cookie] where it is called three times, and once more after closing."""
    with loaded(name) as one:
        with attach(one.program):
            for _ in range(3):
                call()
        call()
        return one.seen()


@functools.cache
def kallsyms() -> str:
    return Path("/proc/kallsyms").read_text()


def address(name: str) -> int:
    found = re.search(rf"^([0-9a-f]+) \S {name}$", kallsyms(), re.M)
    assert found
    return int(found[1], 16)


@case
def kprobe() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(CALL, cookie=COOKIE))


@case
def kretprobe() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(CALL, cookie=COOKIE, retprobe=True))


@case
def kprobe_by_address() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(address(CALL), cookie=7))


@case
def kprobe_legacy() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(CALL, mode="legacy"))


@case
def kprobe_perf() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(CALL, mode="perf"))


@case
def kprobe_link() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(CALL, mode="link", cookie=8))


@case
def kprobe_perf_with_a_cookie() -> Any:
    return ran("kprobe", lambda p: p.attach_kprobe(CALL, mode="perf", cookie=8))


@case
def kprobe_by_section() -> Any:
    return ran("kprobe_section", lambda p: p.attach())


@case
def ksyscall() -> Any:
    return ran("kprobe", lambda p: p.attach_ksyscall("getppid", cookie=9))


@case
def kretsyscall() -> Any:
    return ran("kprobe", lambda p: p.attach_ksyscall("getppid", cookie=10, retprobe=True))


@case
def ksyscall_that_is_none() -> Any:
    return ran("kprobe", lambda p: p.attach_ksyscall("getpppid"))


def several(functions: Any, **options: Any) -> list[int]:
    """[runs, sum of the cookies] of getppid() and getuid()."""
    with loaded("kprobe_multi") as one:
        with one.program.attach_kprobe_multi(functions, **options):
            os.getppid()
            os.getuid()
        os.getppid()
        return [one.value("hits"), one.value("sum")]


@case
def kprobe_multi_by_pattern() -> Any:
    return several("__do_sys_getppi?")


@case
def kprobe_multi_by_names() -> Any:
    return several([CALL, "__x64_sys_getuid"], cookie=[20, 22])


@case
def kretprobe_multi_by_addresses() -> Any:
    places = [address(CALL), address("__x64_sys_getuid")]
    return several(places, cookie=5, retprobe=True)


@case
def kprobe_multi_of_nothing() -> Any:
    return several(["no_such_function"])


@case
def session_by_the_library() -> Any:
    return ran("kprobe_multi", lambda p: p.attach_kprobe_multi(CALL, session=True))


@case
def session() -> Any:
    def attach(program: Program) -> Any:
        return program.attach_kprobe_multi([CALL], session=True, cookie=30)

    return ran("session", attach)


@case
def fentry() -> Any:
    return ran("fentry", lambda p: p.attach_trace(cookie=11), open_null)


@case
def fexit() -> Any:
    return ran("fexit", lambda p: p.attach_trace(cookie=12), open_null)


@case
def tp_btf() -> Any:
    return ran("tp_btf", lambda p: p.attach_trace())


def refused(name: str, attach: Callable[[Program], Any]) -> list[Any]:
    """Whether making a folder is refused while the program is attached, and its runs."""
    folder = Path(tempfile.mkdtemp(), "new")

    def make() -> str:
        try:
            folder.mkdir()
            folder.rmdir()
        except PermissionError:
            return "refused"
        return "made"

    with loaded(name) as one:
        results = [make()]
        with attach(one.program):
            results.append(make())
        return [*results, make(), *one.seen()]


@case
def fmod_ret() -> Any:
    return refused("fmod_ret", lambda p: p.attach_trace(cookie=13))


@case
def lsm() -> Any:
    return refused("lsm", lambda p: p.attach_lsm())


@case
def lsm_by_section() -> Any:
    return refused("lsm", lambda p: p.attach())


@case
def lsm_cgroup() -> Any:
    folder = tempfile.mkdtemp()
    subprocess.run(["mount", "-t", "cgroup2", "none", folder], check=True)

    def bind() -> str:
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", 0))
            except PermissionError:
                return "refused"
        return "bound"

    with loaded("lsm_cgroup") as one:
        with one.program.attach_cgroup(folder):
            during = bind()
        return [during, bind(), one.value("hits")]


@case
def iterator() -> Any:
    with loaded("tasks") as one, one.program.attach_iter(pid=os.getpid()) as link:
        return [set(link.read().split()) == {str(os.getpid())}, link.read() != ""]


@case
def freplace() -> Any:
    with BpfObject.open(FREPLACE) as target, BpfObject.open(FREPLACE) as other:
        target.programs["replacement"].autoload = False
        target.load()
        entry = target.programs["entry"]
        other.programs["entry"].autoload = False
        replacement = other.programs["replacement"]
        replacement.set_attach_target("chosen", entry)
        other.load()

        def run() -> int:
            return int(entry.test_run(bytes(64)).retval)

        results = [run()]
        with replacement.attach_freplace():
            results.append(run())
        with replacement.attach_freplace(entry, "chosen"):
            results.append(run())
        return [*results, run()]


@case
def struct_ops() -> Any:
    subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True)
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with BpfObject.open(STRUCT_OPS) as obj:
        obj.load()
        with obj.maps["ours"].attach_struct_ops():
            listed = "bpf_ours" in available.read_text().split()
            with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bpf_ours")
                client.connect(server.getsockname())
                client.sendall(bytes(1000))
        hits = obj.variables["hits"].value
        return [listed, hits, "bpf_ours" in available.read_text().split()]


@case
def struct_ops_by_the_object() -> Any:
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with BpfObject.open(STRUCT_OPS) as obj:
        obj.load()
        links = obj.attach()
        return [len(links), "bpf_ours" in available.read_text().split()]


@case
def netkit() -> Any:
    with loaded("netkit") as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        make_netkit()
        commands = "addr add 10.9.9.1/24 dev nk0; ip link set dev nk0 up; ip link set dev nk1 up"
        subprocess.run(["sh", "-ec", f"ip {commands}"], check=True)
        with one.program.attach_netkit("nk0"):
            sender.sendto(b"netkit!", ("10.9.9.2", 9))
        before = one.value("hits")
        sender.sendto(b"netkit!", ("10.9.9.2", 9))
        return [before, one.value("hits")]


@case
def netkit_that_is_none() -> Any:
    with loaded("netkit") as one:
        return one.program.attach_netkit("lo")


def make_netkit() -> None:
    """Makes the pair nk0 and nk1: an older iproute2 does not know how."""

    def attribute(kind: int, data: bytes) -> bytes:
        return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)

    peer = struct.pack("BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"nk1\0")
    data = attribute(2, attribute(1, peer))  # IFLA_INFO_DATA, IFLA_NETKIT_PEER_INFO
    info = attribute(18, attribute(1, b"netkit") + data)  # IFLA_LINKINFO
    body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"nk0\0") + info
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.send(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        (code,) = struct.unpack_from("i", link.recv(4096), 16)
    if code:
        raise OSError(-code, os.strerror(-code))


@case
def tcx() -> Any:
    with loaded("tcx") as one, one.program.attach_tcx("lo"):
        before = one.value("hits")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", 9))
        for _ in range(6000):  # a busy kernel hands it in a moment later
            if one.value("hits"):
                break
            time.sleep(0.01)
        return [before, one.value("hits") > 0]


@case
def uprobe_multi() -> Any:
    with loaded("uprobe_multi") as one:
        libc = ctypes.CDLL(None)
        with one.program.attach_uprobe_multi("libc.so.6", "getppi?", pid=0):
            libc.getppid()
        libc.getppid()
        return one.seen()


@case
def raw_tracepoint_with_a_cookie() -> Any:
    with loaded("raw_cookie") as one:
        with one.program.attach_raw_tracepoint("sys_enter", cookie=15):
            os.getppid()
        return [one.value("hits") > 0, one.value("cookie")]


@case
def raw_tracepoint_with_a_cookie_that_is_not_read() -> Any:
    return ran("raw", lambda p: p.attach_raw_tracepoint("sys_enter", cookie=15))


def main() -> None:
    results = {}
    subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=False)
    for name, function in _cases.items():
        try:
            results[name] = function()
        except (BpfError, OSError) as error:
            results[name] = [type(error).__name__, error.errno, str(error)]
    print(json.dumps(results))


main()

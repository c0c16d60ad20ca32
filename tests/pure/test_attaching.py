"""Attaching to many functions: what is asked of the library, without a kernel."""

from __future__ import annotations

import errno
import io
import logging
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from libbpf_ctypes import BpfError, features, kernel
from libbpf_ctypes.cli.attached import counts_missed
from libbpf_ctypes.cli.attaching import attach
from libbpf_ctypes.cli.calls import hides_caller
from libbpf_ctypes.cli.costs import costs
from libbpf_ctypes.cli.functions import Function
from libbpf_ctypes.cli.plan import Plan, plan
from libbpf_ctypes.cli.progress import Counter
from libbpf_ctypes.cli.tracepoints import Tracepoint
from libbpf_ctypes.cli.user_functions import UserFunction
from libbpf_ctypes.errors import ENOTSUPP


class Link:
    """A link that tells who closed it."""

    def __init__(self, missed: int = 0) -> None:
        self.info = SimpleNamespace(details=SimpleNamespace(missed=missed))
        self.closed_by = ""

    def close(self) -> None:
        assert not self.closed_by
        self.closed_by = threading.current_thread().name


class Program:
    """A program that notes where it is attached; what is named in REFUSED is refused."""

    of_returns = False

    def __init__(self, **refused: int) -> None:
        self.refused = refused
        self.places: list[tuple[Any, int, Any]] = []
        self.links: list[Link] = []
        self.statistics = SimpleNamespace(recursion_misses=5)

    def attach_kprobe(
        self, place: Any, *, offset: int = 0, cookie: int = 0, retprobe: bool = False
    ) -> Link:
        assert retprobe == self.of_returns
        if place in self.refused:
            raise BpfError(f"attach kprobe to {place}", self.refused[place])
        self.places.append((place, offset, cookie))
        self.links.append(Link(missed=1))
        return self.links[-1]

    def attach_uprobe(
        self, path: str, *, offset: int, pid: int, retprobe: bool, cookie: int
    ) -> Link:
        link = self.attach_kprobe(f"{path}+{offset}", cookie=cookie, retprobe=retprobe)
        self.places[-1] = (path, offset, (pid, cookie))
        return link

    def attach_tracepoint(self, category: str, name: str, *, cookie: int) -> Link:
        return self.attach_kprobe(f"{category}:{name}", cookie=cookie)

    def attach_kprobe_multi(
        self, places: list[Any], *, cookie: list[int], retprobe: bool = False
    ) -> Link:
        assert retprobe == self.of_returns
        for place in places:
            if place in self.refused:
                raise BpfError("attach kprobe.multi", self.refused[place])
        self.places.append((places, 0, cookie))
        self.links.append(Link(missed=10))
        return self.links[-1]


def function(name: str, address: int = 0, **fields: Any) -> Function:
    made = Function(name, "", address, 0, "", name, False, False)
    return made._replace(**fields)


def objects(single: Program | None = None, multi: Program | None = None) -> Any:
    programs = {"call_kprobe": single or Program(), "call_kprobe_multi": multi or Program()}
    return SimpleNamespace(programs=programs)


def singly(*functions: Function) -> Plan:
    return Plan(list(functions), [], list(range(len(functions))))


@pytest.fixture
def multi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "has_kprobe_multi", lambda: True)


@pytest.mark.usefixtures("multi")
def test_what_ftrace_knows_goes_by_one_link() -> None:
    several = [
        function("a", 1, ftraceable=True),
        function("b", 2),
        function("c", 3, ftraceable=True),
    ]
    wanted = plan(several)
    assert wanted == Plan(several, [0, 2], [1])
    assert wanted.method == "kprobe.multi and kprobe"
    assert wanted.descriptors == 3
    assert plan(several[:2]) == Plan(several[:2], [], [0, 1]), "one needs no list"
    one, many = Program(), Program()
    with attach(objects(one, many), wanted) as attached:
        assert (attached.method, attached.count) == ("kprobe.multi and kprobe", 3)
    assert many.places == [([1, 3], 0, [0, 2])], "their places in the list are their cookies"
    assert one.places == [("b", 0, 1)]


@pytest.mark.usefixtures("multi")
def test_hidden_addresses_go_by_name() -> None:
    many = Program()
    several = [function(name, ftraceable=True) for name in "ab"]
    attach(objects(multi=many), plan(several)).close()
    assert many.places == [(["a", "b"], 0, [0, 1])]


@pytest.mark.usefixtures("multi")
def test_a_function_that_kprobe_multi_refuses_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    many = Program(f3=errno.ESRCH, f4=errno.EINVAL)
    several = [function(f"f{n}", ftraceable=True) for n in range(7)]
    with caplog.at_level(logging.WARNING):
        attached = attach(objects(multi=many), plan(several))
    assert (attached.method, attached.count) == ("kprobe.multi", 5)
    assert [cookies for _, _, cookies in many.places] == [[0, 1, 2], [5, 6]]
    assert "2 of 7 functions could not be probed, as f3: " in caplog.text
    denied = Program(f3=errno.EPERM)
    with pytest.raises(BpfError):
        attach(objects(multi=denied), plan(several))
    assert not denied.links


@pytest.mark.usefixtures("multi")
def test_without_tracefs_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    several = [function("a", 1), function("b", 2, offset=4), function("c", 3)]
    monkeypatch.setattr(kernel, "ftraceable", lambda: None)
    assert plan(several) == Plan(several, [0, 2], [1])
    assert plan(several[:1]) == singly(several[0])
    monkeypatch.setattr(kernel, "ftraceable", dict)
    assert plan(several) == singly(*several)


def test_without_kprobe_multi_each_gets_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "has_kprobe_multi", lambda: False)
    several = [function(name, 1, ftraceable=True) for name in "ab"]
    assert plan(several) == singly(*several)
    assert plan(several).method == "kprobe"


def test_by_which_name_or_address() -> None:
    one = Program()
    wanted = singly(
        function("a", 0x10),
        function("b", 0x20, ambiguous=True),
        function("c", 0x30, module="m"),
        function("d", 0x40, offset=4),
        function("e", offset=4),
    )
    attach(objects(one), wanted).close()
    assert one.places == [("a", 0, 0), (0x20, 0, 1), ("m:c", 0, 2), (0x44, 0, 3), ("e", 4, 4)]


class ReturnProgram(Program):
    """A program of returns."""

    of_returns = True


def test_returns_are_attached_before_what_begins() -> None:
    began, returned = Program(), ReturnProgram(b=errno.EINVAL)
    programs = {"enter_kprobe": began, "return_kprobe": returned}
    obj: Any = SimpleNamespace(programs=programs)
    attached = attach(obj, singly(*map(function, "abc")), entry="enter", exit="return")
    assert attached.count == 2
    assert [cookie for _, _, cookie in returned.places] == [0, 2]
    assert began.places == returned.places, "what cannot be met again does not begin"
    attached.close()
    assert all(link.closed_by for link in [*began.links, *returned.links])


def test_what_the_kernel_refuses_of_several_is_told(caplog: pytest.LogCaptureFixture) -> None:
    one = Program(b=errno.EINVAL)
    with caplog.at_level(logging.WARNING):
        attached = attach(objects(one), singly(*map(function, "abc")))
    assert attached.count == 2
    assert [cookie for _, _, cookie in one.places] == [0, 2]
    assert "1 of 3 functions could not be probed, as b: attach kprobe to b" in caplog.text


def with_returns(began: Program, multi: str = "") -> tuple[Any, Program]:
    """An object with programs for calls and their returns, and that of the returns."""
    returned = ReturnProgram()
    programs = {f"enter_kprobe{multi}": began, f"return_kprobe{multi}": returned}
    return SimpleNamespace(programs=programs), returned


def test_the_plan_of_returns() -> None:
    obj, _returned = with_returns(Program())
    wanted = plan([function("a"), function("b")], returns=True)
    assert (wanted.method, wanted.descriptors) == ("kretprobe", 2 * 2 * 2)
    with attach(obj, wanted, entry="enter", exit="return") as attached:
        assert (attached.count, attached.method) == (2, "kretprobe")


@pytest.mark.usefixtures("multi")
def test_returns_of_many() -> None:
    began = Program(b=errno.EINVAL)
    obj, returned = with_returns(began, "_multi")
    wanted = plan([function(name, ftraceable=True) for name in "abc"], returns=True)
    attached = attach(obj, wanted, entry="enter", exit="return")
    assert (attached.count, attached.method) == (2, "kretprobe.multi")
    attached.close()
    links = [*began.links, *returned.links]
    assert all(link.closed_by for link in links), "those of the function that was refused, too"


def test_a_call_that_is_refused_leaves_no_return_attached() -> None:
    obj, returned = with_returns(Program(b=errno.EINVAL))
    wanted = plan([function(name) for name in "abc"], returns=True)
    attached = attach(obj, wanted, entry="enter", exit="return")
    assert attached.count == 2
    assert returned.links[1].closed_by, "at once"
    assert not returned.links[0].closed_by
    attached.close()


def test_functions_of_programs() -> None:
    places = [
        UserFunction("/bin/a", 0x10, "f", "a:f", 0, b""),
        UserFunction("/bin/a", 0x20, "g", "a:g", 0, b""),
    ]
    began = Program(**{"/bin/a+16": ENOTSUPP})
    obj, returned = with_returns(began)
    wanted = plan(places, returns=True)
    assert (wanted.method, wanted.single) == ("uretprobe", [0, 1])
    with attach(obj, wanted, entry="enter", exit="return", pid=7) as attached:
        assert (attached.count, attached.method) == (1, "uretprobe")
    assert began.places == [("/bin/a", 0x20, (7, 1))]
    assert returned.places[1:] == began.places
    assert costs(wanted) == [
        f"uprobe at /bin/a+{offset:#x}, by a breakpoint, which costs an exception, and one more "
        "at the return"
        for offset in (0x10, 0x20)
    ]


def test_tracepoints() -> None:
    points = [Tracepoint("sched", name, f"sched:{name}", (), {}) for name in ("a", "b")]
    program = Program()
    obj: Any = SimpleNamespace(programs={"count_tracepoint": program})
    with attach(obj, plan(points), entry="count") as attached:
        assert (attached.count, attached.method) == (2, "tracepoint")
    assert program.places == [("sched:a", 0, 0), ("sched:b", 0, 1)]
    assert costs(plan(points)) == ["tracepoint, by a call that is always there"] * 2


@pytest.mark.parametrize("refused", [{"b": errno.EACCES}, dict.fromkeys("abc", errno.ENOENT)])
def test_an_error_of_all_leaves_nothing_attached(refused: dict[str, int]) -> None:
    one = Program(**refused)
    with pytest.raises(BpfError) as caught:
        attach(objects(one), singly(*map(function, "abc")))
    assert caught.value.errno in refused.values()
    assert all(link.closed_by for link in one.links)


def test_a_stop_in_between() -> None:
    one, told = Program(), []
    attached = attach(
        objects(one),
        singly(*map(function, "abcde")),
        progress=lambda done, total: told.append((done, total)),
        should_stop=lambda: len(one.places) == 3,
    )
    assert attached.count == 3
    assert told == [(0, 5), (1, 5), (2, 5)]
    attached.close()
    assert all(link.closed_by for link in one.links)


def test_many_are_closed_by_several_threads() -> None:
    one, told = Program(), []
    attached = attach(objects(one), singly(*(function(f"f{n}") for n in range(40))))
    attached.close(lambda done, total: told.append((done, total)))
    attached.close()
    assert all("ThreadPool" in link.closed_by for link in one.links)
    assert told == [(n, 40) for n in range(1, 41)]


def test_missed_calls_are_those_of_links_and_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libbpf_ctypes.cli.attached.counts_missed", lambda: True)
    attached = attach(objects(), singly(*map(function, "ab")))
    assert attached.missed() == 5 + 1 + 1
    attached.close()
    assert attached.missed() == 7, "also when it is closed"
    monkeypatch.setattr("libbpf_ctypes.cli.attached.counts_missed", lambda: False)
    with attach(objects(), singly(function("a"))) as unknown:
        assert unknown.missed() is None


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ("6.1.0-41-amd64", False),
        ("6.6.90", False),
        ("6.7.0", True),
        ("6.18-rc1", True),
        ("7.0", True),
    ],
)
def test_which_kernels_count_them(
    monkeypatch: pytest.MonkeyPatch, release: str, told: bool
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    assert counts_missed() is told


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits = [(100, 300)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: limits.append(pair))
    attach(objects(), singly(*(function(f"f{n}") for n in range(10)))).close()
    assert limits == [(100, 300)], "enough for ten"
    attach(objects(), singly(*(function(f"f{n}") for n in range(100)))).close()
    assert limits[1:] == [(264, 300)]
    with pytest.raises(BpfError, match="200 single probes need 464 open files") as caught:
        attach(objects(), singly(*(function(f"f{n}") for n in range(200))))
    assert caught.value.errno == errno.EMFILE
    assert "ulimit" in caught.value.hint


class Terminal(io.StringIO):
    """A stderr that is a terminal, or none."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
def test_progress(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool) -> None:
    err, lines, clock = Terminal(terminal), list[str](), [100.0]
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("select.select", lambda *_lists: ([], [err], []))
    console: Any = SimpleNamespace(info=lines.append)
    counter = Counter(console, "Attaching", quiet=quiet)
    for done in range(5):
        counter(done, 4)
        clock[0] += 1.5
    written = [f"\r[INFO] Attaching: {done} of 4 probes" for done in (1, 2, 3)] + ["\r\x1b[K"]
    told = [f"Attaching: {done} of 4 probes" for done in (2,)]
    assert err.getvalue() == ("".join(written) if terminal and not quiet else "")
    assert lines == ([] if terminal or quiet else told)


@pytest.mark.parametrize(
    ("code", "machine", "hides"),
    [
        ("554889e5", "x86_64", False),
        ("f30f1efa", "x86_64", False),
        ("31c0c390", "x86_64", True),
        ("", "x86_64", True),
        ("55000000", "aarch64", True),
    ],
)
def test_whether_a_stack_lacks_the_caller(code: str, machine: str, hides: bool) -> None:
    assert hides_caller(bytes.fromhex(code), machine) == hides

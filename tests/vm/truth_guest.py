"""Runs in the guest: ebpf-tool with many command lines, strace, opensnoop and bpftrace at the same
time, while processes make known calls. Prints what they did and what each observer printed.

    python truth_guest.py '{"NAME": ["kprobe", "openat", "-p", "{main.pid}"], ...}'

A NAME that begins with "box" runs in the container, one with "flood" while very many calls are
made, "flight" while some are under way, "replay" when all is over. The cases watch in groups, and
the calls are made once for each group: an act. The answer is {"cast": {actor: [...]},
"calls": [...], "runs": {name: {"status", "out", "err", "act"}}, "floods": how often very many
calls were made, "times": {...}}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT)]

from tests.root.example_runs import read  # noqa: E402
from tests.vm import cast  # noqa: E402
from tests.vm.running import CGROUPS, Run, execute, mount_all, preload, remember_answers, tool  # noqa: E402

BOX_CGROUP = CGROUPS / "gt" / f"docker-{cast.CONTAINER}.scope"
AT_A_TIME = 9  # each takes 20 MB
#: They take a minute to begin, and are asked on one kernel.
REFERENCES = (
    ("opensnoop", "bpftrace", "funclatency") if not os.uname().release.startswith("6.1.") else ()
)
#: They tell of a file that is opened as soon as it is.
TELLING = REFERENCES[:2]
STRACED = ("main", "user", "box", "inner")
READY, END = "/gt/ready", "/gt/end"

BPFTRACE = r"""
BEGIN { printf("%s\n", "ready"); }
kprobe:do_sys_openat2 {
    printf("open %d %d %d %d %llu %s %d|%s",
           pid, tid, uid, cpu, cgroup, comm, (int32)arg0, str(uptr(arg1)));
}
kprobe:ksys_write /arg2 > 4096/ { printf("write %d %d %llu|", pid, tid, arg2); }
kprobe:__x64_sys_nanosleep { @began[tid] = nsecs; }
kretprobe:__x64_sys_nanosleep /@began[tid]/ {
    @ns = hist(nsecs - @began[tid]);
    delete(@began[tid]);
}
"""


def start_cast() -> dict[str, cast.Actor]:
    """Everybody, waiting for a cue."""

    def into_box() -> None:
        cast.enter_cgroup(BOX_CGROUP)
        cast.new_pid_namespace()

    actors = {
        "main": cast.start(["gt-main", "gt-worker-1", "gt-worker-2"]),
        "user": cast.start(["gt-user"], before=cast.become_user, cpu=0),
        "box": cast.start(["gt-box"], before=into_box, cpu=1),
    }

    def into_inner() -> None:
        cast.enter_cgroup(BOX_CGROUP / "inner")
        cast.join_pid_namespace(actors["box"].pid)
        cast.new_pid_namespace()

    actors["inner"] = cast.start(["gt-inner"], before=into_inner)
    actors["absent"] = cast.start(["gt-absent"], cast.absent)
    actors["flood"] = cast.start(["gt-flood"], cast.flood)
    return actors


def touch(path: str) -> None:
    """Opens a file that is not there, so that an observer tells that it sees."""
    with contextlib.suppress(OSError):
        os.open(path, os.O_RDONLY)


class Stage:
    """The place, the actors and the observers."""

    def __init__(self, place: Path, cases: dict[str, list[str]]) -> None:
        self._place = place
        self._began = time.monotonic()
        self.times: dict[str, float] = {}
        self.act = 0
        self.floods = 0
        self.acts: dict[str, int] = {}
        self.runs: dict[str, Run] = {}
        self.actors = start_cast()
        names = {
            name: SimpleNamespace(pid=actor.pid, tids=[who.tids[0] for who in actor.threads])
            for name, actor in self.actors.items()
        }
        names["cgroup"] = SimpleNamespace(path=BOX_CGROUP, id=cast.CONTAINER)
        names["folder"] = SimpleNamespace(path=place)
        self.cases = {
            name: [word.format_map(names) for word in words] for name, words in cases.items()
        }

    def mark(self, name: str) -> None:
        """Notes how long it took so far."""
        self.times[name] = round(time.monotonic() - self._began, 1)
        print(f"truth: {name} after {self.times[name]} s", file=sys.stderr)

    def chosen(self, kind: str) -> list[str]:
        """The names of the cases of a kind."""
        return [name for name in self.cases if name.startswith(kind)]

    def begin(self, name: str, run: Callable[[], object]) -> Run:
        """Starts an observer."""
        self.acts[name] = self.act
        self.runs[name] = started = Run(name, self._place, run)
        return started

    def begin_tools(self, names: list[str]) -> None:
        """Starts ebpf-tool for these cases; returns when all of them listen."""
        for name in names:
            box = self.actors["box"].pid if name.startswith("box") else None
            self.begin(name, tool(self.cases[name], box))
        for name in names:
            self.runs[name].wait(partial(self.listens, name))

    def listens(self, name: str) -> bool:
        """Whether a tool says that it listens."""
        return "Listening" in read(self.runs[name].err)

    def told(self, name: str, path: str) -> bool:
        """Whether a reference tells that a file is opened, which is done here."""
        touch(path)
        return path in read(self.runs[name].out).replace("\\/", "/")

    def begin_references(self) -> None:
        """Starts the others; returns when all of them see."""
        if REFERENCES:
            bpftrace = ("bpftrace", "-B", "none", "-f", "json", "-e", BPFTRACE)
            self.begin("bpftrace", execute(*bpftrace, BPFTRACE_STRLEN="200"))
            for words in (["opensnoop", "-U"], ["funclatency", "__x64_sys_nanosleep"]):
                self.begin(words[0], execute("stdbuf", "-oL", *words))
        watched = [f"--attach={each.pid}" for name, each in self.actors.items() if name in STRACED]
        strace = ["strace", "-f", "-s", "4096", "-e", "trace=open,openat,openat2", *watched]
        run = self.begin("strace", execute(*strace, "-o", "/dev/stdout"))
        run.wait(lambda: read(run.err).count(" attached") == len(watched))
        for name in TELLING:
            self.runs[name].wait(partial(self.told, name, READY))
        if REFERENCES:
            funclatency = self.runs["funclatency"]
            funclatency.wait(lambda: "Tracing" in read(funclatency.out))
        self.mark("references")

    def play(self, names: list[str]) -> list[dict[str, Any]]:
        """An act: these cases see all calls of all actors but the flood's. Returns: the calls."""
        self.act += 1
        if self.act == 1:
            self.begin_references()
            preload()
            remember_answers()
        self.begin_tools(names)
        players = [each for name, each in self.actors.items() if name != "flood"]
        for actor in players:
            actor.begin()
        calls = [{**call, "act": self.act} for actor in players for call in actor.calls()]
        if self.act == 1:
            for name in TELLING:
                self.runs[name].wait(partial(self.told, name, END))
        self.close()
        self.mark(f"act {self.act}")
        return calls

    def close(self) -> None:
        """Ends the observers that run."""
        for run in self.runs.values():
            run.interrupt()
        for run in self.runs.values():
            run.wait(lambda: False)

    def flood(self) -> None:
        """Very many calls, for the observers of those."""
        self.begin_tools(self.chosen("flood"))

        def loss_is_told() -> bool:
            return '"type":"lost"' in read(self.runs["flood"].out)

        # The kernel's report comes with an event that finds room again.
        while self.floods < 20 and not loss_is_told():
            self.floods += 1
            self.actors["flood"].begin()
            self.actors["flood"].calls()
            soon = time.monotonic() + 1
            while not loss_is_told() and time.monotonic() < soon:
                time.sleep(0.05)
        self.close()
        self.mark("flood")

    def flight(self) -> None:
        """A call that began before the trace and ends in it, three within, one that ends after."""
        (first, go), (second, leave), (note, told) = os.pipe(), os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            cast.name_thread("gt-flight")
            os.read(first, 1)
            zero = os.open("/dev/zero", os.O_RDONLY)
            for count in (1, 2, 3):
                os.read(zero, count)
            os.write(told, b"1")
            os.read(second, 1)
            os._exit(0)
        self.wait_in_pipe(child)
        self.begin_tools(self.chosen("flight"))
        os.write(go, b"1")
        os.read(note, 1)
        self.wait_in_pipe(child)
        self.close()
        os.write(leave, b"1")
        os.waitpid(child, 0)
        self.mark("flight")

    def wait_in_pipe(self, pid: int) -> None:
        """Waits until a process waits for a pipe."""
        while "pipe" not in Path(f"/proc/{pid}/wchan").read_text():
            time.sleep(0.01)

    def replay(self) -> None:
        """What was recorded, again."""
        for name in self.chosen("replay"):
            self.begin(name, tool(self.cases[name])).wait(lambda: False)
        self.mark("replay")


def observe(place: Path, cases: dict[str, list[str]]) -> dict[str, Any]:
    """Plays it all; what is printed in the end."""
    mount_all()
    stage = Stage(place, cases)
    others = [*stage.chosen("flood"), *stage.chosen("replay"), *stage.chosen("flight")]
    names = [name for name in cases if name not in others]
    acts = [names[at : at + AT_A_TIME] for at in range(0, len(names), AT_A_TIME)]
    calls = [call for act in acts for call in stage.play(act)]
    stage.flood()
    stage.flight()
    stage.replay()
    for actor in stage.actors.values():
        actor.end()
    runs = {name: {**run.finish(), "act": stage.acts[name]} for name, run in stage.runs.items()}
    whos = {name: [who._asdict() for who in each.threads] for name, each in stage.actors.items()}
    told = {"floods": stage.floods, "times": stage.times}
    return {"cast": whos, "calls": calls, "runs": runs, **told}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(observe(Path(folder), json.loads(sys.argv[1]))))

"""Programs that are attached: detaching them, and the calls that the kernel missed."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from .kernel_version import is_since

if TYPE_CHECKING:
    from ..link import Link
    from ..program import Program
    from .progress import Progress

#: Since this version the kernel counts the calls that its probes missed.
#: Source: "missed" in struct bpf_link_info, trace_call_bpf(); Linux 6.7.
MISSED_SINCE = "6.7"

#: So many are closed at a time: the kernel lets each wait, and some of them together.
_CLOSERS = 8


def counts_missed() -> bool:
    """Whether this kernel tells which calls its probes missed."""
    return is_since(MISSED_SINCE)


class Attached:
    """Programs attached to functions; close() detaches them from all.

    Attributes:
        method: "kprobe.multi", "kprobe", or both.
        count: how many functions they were attached to.
    """

    def __init__(self) -> None:
        self.method = ""
        self.count = 0
        self._programs: list[Program] = []
        self._links: list[Link] = []
        self._missed: int | None = None

    def add(self, program: Program, link: Link, method: str, count: int) -> None:
        """A link of this program to so many functions."""
        self._links.append(link)
        self.count += count
        if program not in self._programs:
            self._programs.append(program)
        if method not in self.method.split(" and "):
            self.method += f" and {method}" if self.method else method

    def missed(self) -> int | None:
        """Calls that the kernel did not run the program for, until now or until close().

        A probe that is hit within another is not run, nor a program while this CPU runs one.
        They are counted of all processes, whatever the filters. None: this kernel does not
        count them, see MISSED_SINCE.
        """
        if self._links and counts_missed():
            self._missed = sum(program.statistics.recursion_misses for program in self._programs)
            self._missed += sum(getattr(link.info.details, "missed", 0) for link in self._links)
        return self._missed

    def close(self, progress: Progress | None = None) -> None:
        """Detaches; many at a time, since the kernel makes each wait for all CPUs."""
        if not self._links:
            return
        try:
            self.missed()
        finally:
            links, self._links = self._links, []
            if len(links) < _CLOSERS:
                for link in links:
                    link.close()
            else:
                _close_all(links, progress)

    def __enter__(self) -> Attached:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _close_all(links: list[Link], progress: Progress | None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_CLOSERS) as pool:
        for done, _ in enumerate(pool.map(lambda link: link.close(), links), 1):
            if progress is not None:
                progress(done, len(links))

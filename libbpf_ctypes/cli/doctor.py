"""``ebpf-tool doctor``: what works here, what does not, why, and what to do about it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from .checks import NEEDED, Check, look_at_command
from .kernel_checks import look_at_kernel
from .origin import here
from .text import escape
from .trial import STEPS, try_out

#: Of the object that --json prints; it changes where what is there changes its meaning.
VERSION = 1

_GROUPS = {
    "command": "The command",
    "privileges": "What this process may do",
    "kernel": "The kernel",
    "trial": "Tried out",
}
_FOR_TRIAL = ("libbpf", "object")
_MARKS = {True: "ok", False: "no", None: "?"}
_NAME_WIDTH = 20
_MAX_WIDTH = 100


def run(words: dict[str, Any]) -> int:
    """Prints the report; returns 0 where ``ebpf-tool kprobe`` works, else 1."""
    # What the library logs, as of small buffers, is in the report.
    logging.getLogger(__package__.rpartition(".")[0]).addHandler(logging.NullHandler())
    checks = [*look_at_command(), *look_at_kernel()]
    missing = [check.name for check in checks if check.name in _FOR_TRIAL and not check.answer]
    checks = _settled([*checks, *try_out(" and ".join(missing))])
    text = _as_json(checks) if words["--json"] else _as_text(checks)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    return 0 if _works(checks) else 1


def _works(checks: Iterable[Check]) -> bool:
    return all(check.answer for check in checks if _is_needed(check))


def _settled(checks: list[Check]) -> list[Check]:
    """Where the trial went well, nothing that could not be known stood in its way."""
    if not all(check.answer for check in checks if check.name in STEPS):
        return checks
    return [
        check._replace(answer=True, advice="", detail=f"{check.detail}; the trial went well")
        if check.group == "privileges" and check.answer is None
        else check
        for check in checks
    ]


def _is_needed(check: Check) -> bool:
    """Whether ``ebpf-tool kprobe`` cannot do without it."""
    return check.name in NEEDED or check.name in STEPS


def _as_json(checks: list[Check]) -> str:
    """One object, in one line: docs/json.md tells what is in it."""
    import json

    tool, host, machine, release, boot_id = here()
    report = {
        "type": "doctor",
        "version": VERSION,
        "tool": f"ebpf-tool {tool}",
        "host": host,
        "boot_id": boot_id,
        "kernel": release,
        "machine": machine,
        "uid": os.geteuid(),
        "works": _works(checks),
        "checks": [{**check._asdict(), "needed": _is_needed(check)} for check in checks],
    }
    # A path may hold bytes that are not UTF-8, for which JSON has no place.
    text = json.dumps(report, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return json.dumps(json.loads(text.decode("utf-8", "replace")), separators=(",", ":"))


def _as_text(checks: list[Check]) -> str:
    width = min(shutil.get_terminal_size((80, 24)).columns, _MAX_WIDTH)
    tool, _host, machine, release, _boot_id = here()
    lines = [f"ebpf-tool {tool} on Linux {release}, {machine}"]
    given: list[str] = []
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            lines += ["", _GROUPS[group]]
        head = f"  {_MARKS[check.answer]:2}  {check.name:{_NAME_WIDTH}} "
        lines += _wrapped(head, escape(check.detail), len(head), width)
        if check.advice and not any(text in check.advice for text in given):  # one cause,
            given.append(check.advice)  # many effects
            lines += _wrapped(" " * 6 + "-> ", escape(check.advice), 9, width)
    return "\n".join([*lines, "", *_wrapped("", _conclusion(checks), 0, width)])


def _wrapped(head: str, text: str, indent: int, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, indent + 20),
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _conclusion(checks: list[Check]) -> str:
    lacking = [check for check in checks if check.answer is False]
    if _works(checks):
        limits = ", without " + ", ".join(check.name for check in lacking) if lacking else ""
        return f"ebpf-tool kprobe works here{limits}."
    causes = ", ".join(check.name for check in lacking if _is_needed(check))
    return f"ebpf-tool kprobe does not work here, for want of: {causes}."

"""Runs in the guest: the commands of docs/questions/, some at the same time, on a busy server.

    python pages_guest.py '["ebpf-tool kprobe ...", ...]'

Prints a list of {"status", "out", "err"}: out is what a terminal was sent.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent.parent)]

from tests.vm import scenes  # noqa: E402
from tests.vm.running import Run, mount_all, preload, remember_answers, tool  # noqa: E402

COLUMNS = 100
AT_A_TIME = 12  # an emulated machine has no more to give


def longer(words: list[str]) -> list[str]:
    """A trace of some seconds has three times as many: here all that it is to see goes slowly."""
    return [
        str(3 * int(word)) if before == "-d" else word for before, word in zip(["", *words], words)
    ]


def main() -> None:
    """Runs them: what reads a recording after what makes it."""
    commands = json.loads(sys.argv[1])
    mount_all()
    preload()
    remember_answers()
    actors = scenes.start()
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        for later in (False, True):
            chosen = [each for each in commands if each.startswith("ebpf-tool replay") == later]
            for at in range(0, len(chosen), AT_A_TIME):
                some = chosen[at : at + AT_A_TIME]
                for command in some:
                    words = longer(shlex.split(command)[1:])
                    runs[command] = Run(f"{len(runs)}", Path(folder), tool(words), columns=COLUMNS)
                for command in some:
                    runs[command].read_terminal()
                for command in some:
                    runs[command].finish()  # no thread of it is there at the next fork
        scenes.stop(actors)
        print(json.dumps([runs[command].finish() for command in commands]))


if __name__ == "__main__":
    main()

"""What is looked at before a trace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from libbpf_ctypes import BpfError, kernel
from libbpf_ctypes.cli import session
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.options import Choice
from libbpf_ctypes.cli.probing import Probing

FREE = 4194304  # no process has this number
NONE = Choice((), (), (), (), "", (), "", 1)


@pytest.mark.parametrize("choice", [NONE._replace(pids=(FREE,)), NONE._replace(tids=(FREE,))])
def test_a_container_without_btf_does_not_know_the_hosts_processes(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inside, has_btf in ((False, False), (False, True), (True, True)):
        monkeypatch.setattr(kernel, "in_initial_pid_namespace", lambda inside=inside: not inside)
        monkeypatch.setattr(kernel, "BTF", tmp_path / ("" if has_btf else "none"))
        with pytest.raises(BpfError, match=r"there is no (process|thread) of this number"):
            session.check_choice(choice)
    monkeypatch.setattr(kernel, "BTF", tmp_path / "none")
    session.check_choice(choice)


@pytest.mark.parametrize(("of_kernel", "texts"), [(True, "10"), (True, "11"), (False, "00")])
def test_kprobes_that_are_switched_off_are_told_of(
    of_kernel: bool,
    texts: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A trace of them says that nothing was called."""
    switches = [tmp_path / "enabled", tmp_path / "ftrace_enabled"]
    for file, text in zip(switches, texts):
        file.write_text(f"{text}\n")
    monkeypatch.setattr(kernel, "_SWITCHES", [tmp_path / "none", *switches])
    options: Any = SimpleNamespace(choice=NONE, object=Path("own.o"), of_kernel=of_kernel)
    Probing(options, Console(quiet=False, verbose=False)).check()
    told = f"[WARNING] Kprobes are switched off, and may tell nothing: 'echo 1 > {switches[1]}'.\n"
    assert capsys.readouterr().err == (told if texts == "10" else "")

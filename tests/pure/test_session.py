"""What is looked at before a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from libbpf_ctypes import BpfError, kernel
from libbpf_ctypes.cli import session
from libbpf_ctypes.cli.options import Choice

FREE = 4194304  # no process has this number
NONE = Choice((), (), (), (), "", (), "", 1)


@pytest.mark.parametrize("choice", [NONE._replace(pids=(FREE,)), NONE._replace(tids=(FREE,))])
def test_a_container_without_btf_does_not_know_the_hosts_processes(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inside, has_btf in ((False, False), (False, True), (True, True)):
        monkeypatch.setattr(kernel, "in_initial_pid_namespace", lambda inside=inside: not inside)
        monkeypatch.setattr(session, "_BTF", tmp_path / ("" if has_btf else "none"))
        with pytest.raises(BpfError, match=r"there is no (process|thread) of this number"):
            session.check_choice(choice)
    monkeypatch.setattr(session, "_BTF", tmp_path / "none")
    session.check_choice(choice)

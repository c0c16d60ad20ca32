"""What ebpf-tool doctor concludes, and that what it says is documented."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from libbpf_ctypes import kernel
from libbpf_ctypes.cli import checks, doctor, kernel_checks, trial
from libbpf_ctypes.cli.checks import NEEDED, Check

GOOD = [
    *(Check("command", name, True, "there") for name in NEEDED),
    *(Check("trial", name, True, "done") for name in trial.STEPS),
]


def without(*names: str) -> list[Check]:
    return [check._replace(answer=check.name not in names) for check in GOOD]


def last_line(found: list[Check]) -> str:
    return doctor._as_text(found).splitlines()[-1]


def test_it_works_where_all_that_is_needed_does() -> None:
    assert last_line(GOOD) == "ebpf-tool kprobe works here."
    limit = Check("kernel", "kprobe.multi", False, "none", "take another")
    assert last_line([*GOOD, limit]) == "ebpf-tool kprobe works here, without kprobe.multi."
    assert json.loads(doctor._as_json([*GOOD, limit]))["works"] is True


@pytest.mark.parametrize("name", [*NEEDED, *trial.STEPS])
def test_each_thing_needed_is_needed(name: str) -> None:
    assert last_line(without(name)).endswith(f"for want of: {name}.")
    assert json.loads(doctor._as_json(without(name)))["works"] is False


def test_what_is_unknown_does_not_work_where_it_is_needed() -> None:
    unknown = [check._replace(answer=None if check.name == "event" else True) for check in GOOD]
    assert not doctor._works(unknown)


def test_an_advice_is_given_once_and_names_are_escaped() -> None:
    twice = [Check("kernel", name, False, "a\x1bb", "do this") for name in ("one", "two")]
    text = doctor._as_text(twice)
    assert text.count("-> do this") == 1
    assert text.count(r"a\x1bb") == 2


def test_a_trial_that_went_well_settles_what_could_not_be_known() -> None:
    filtered = Check("privileges", "seccomp", None, "a filter", "change it", 2)
    unknown = Check("kernel", "cookies", None, "who knows")
    settled = doctor._settled([filtered, unknown, *GOOD])
    assert settled[0] == Check(
        "privileges", "seccomp", True, "a filter; the trial went well", "", 2
    )
    assert settled[1:] == [unknown, *GOOD]
    assert doctor._settled([filtered, *without("attach")])[0] == filtered


@pytest.mark.parametrize(
    ("lines", "hidden"),
    [
        ("0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n", False),
        ("ffff800080000000 T _text\n", False),
        ("0000000000000000 A fixed_percpu_data\n0000000000000000 T _stext\n", True),
        ("0000000000000000 T only_zeros\n", True),
    ],
)
def test_hidden_addresses(
    lines: str, hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kallsyms").write_text(lines)
    monkeypatch.setattr(kernel_checks, "_KALLSYMS", tmp_path / "kallsyms")
    assert kernel_checks._kallsyms().answer is not hidden


def test_no_kallsyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks, "_KALLSYMS", tmp_path / "kallsyms")
    assert "CONFIG_KALLSYMS" in kernel_checks._kallsyms().advice


def test_probes_that_are_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "has_kprobes", lambda: True)
    switches = [tmp_path / "enabled", tmp_path / "ftrace_enabled"]
    monkeypatch.setattr(kernel, "_SWITCHES", switches)
    assert kernel_checks._kprobes().answer is True
    for switch in switches:
        switch.write_text("0\n")
        assert kernel_checks._kprobes().answer is False
        assert kernel_checks._kprobes().advice == f"'echo 1 > {switch}'."
        switch.write_text("1\n")
    assert kernel_checks._kprobes().answer is True


def test_lockdown(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"none": True, "integrity": True, "confidentiality": False, "": None}
    for mode, answer in answers.items():
        monkeypatch.setattr(kernel, "lockdown", lambda mode=mode: mode)
        assert checks._lockdown().answer is answer
    monkeypatch.setattr(kernel, "lockdown", lambda: "confidentiality")
    assert "Boot without lockdown=confidentiality" in checks._lockdown().advice


def test_a_machine_without_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "KPROBE_OBJECT", tmp_path / "kprobe.bpf.o")
    assert checks._object().answer is False
    assert f"none is shipped for {os.uname().machine}" in checks._object().detail
    assert [check.answer for check in trial.try_out("object")] == [None] * 6


def test_another_docopt(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "0.6.2"

        @staticmethod
        def docopt(doc: str, argv: object = None, help: bool = True) -> None: ...

    monkeypatch.setitem(__import__("sys").modules, "docopt", Old)
    assert checks._docopt().answer is False
    assert checks._docopt().detail == "docopt 0.6.2 is not docopt-ng"


def test_bytes_that_are_no_text() -> None:
    odd = Check("command", "object", True, "/a\udcff/b", value="/a\udcff/b")
    line = doctor._as_json([odd])
    assert line.isascii()
    assert json.loads(line)["checks"][0]["value"] == "/a\ufffd/b"
    assert r"/a\xff/b" in doctor._as_text([odd])

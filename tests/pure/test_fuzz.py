"""What the fuzzer once found, and that it can find something."""

from __future__ import annotations

from pathlib import Path

import pytest

from libbpf_ctypes import codec

from ..fuzz.fuzz_decoder import fuzz_decoder
from ..fuzz.run import FIXTURES, TARGETS, load

FINDINGS = sorted(path for path in FIXTURES.glob("*/*") if path.parent.name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_takes_anything(name: str) -> None:
    target = load(name)
    for data in (b"", b"\0", bytes(range(256)), b"\xff" * 300):
        target(data)


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_breaks_again(path: Path) -> None:
    load(path.parent.name)(path.read_bytes())


def test_the_decoders_target_notices_a_wrong_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    one_integer = bytes([1, 0, 24]) + b"\1\2\3\4\5\6\7\0"  # a struct of one Int64sl
    fuzz_decoder(one_integer)
    monkeypatch.setattr(codec, "_majority", lambda node: ">")
    monkeypatch.setattr(codec, "_as_bytes", lambda node, order: False)
    with pytest.raises(AssertionError):
        fuzz_decoder(one_integer)

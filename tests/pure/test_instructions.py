"""Where instructions begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.instructions import beginnings


@pytest.mark.parametrize(
    "code",
    [
        "55",  # push %rbp
        "f30f1efa",  # endbr64
        "4889e5",  # mov %rsp,%rbp
        "4883ec08",  # sub $0x8,%rsp
        "488b0500000000",  # mov 0x0(%rip),%rax
        "8b04250000000000"[:14],  # mov 0x0,%eax
        "48b8efcdab8967452301",  # movabs
        "66b83412",  # mov $0x1234,%ax
        "b878563412",
        "66c7402034120000"[:12],  # movw $0x1234,0x20(%rax)
        "48c744240878563412",  # movq $0x12345678,0x8(%rsp)
        "f6c201",  # test $0x1,%dl
        "f7d8",  # neg %eax
        "f7c678563412",  # test $0x12345678,%esi
        "e800000000",
        "0f8400000000",  # je
        "0f05",  # syscall
        "66660f1f840000000000",  # data16 nopw 0x0(%rax,%rax,1)
        "660f3a0fc108",  # palignr
        "660f3800c1",  # pshufb
        "c5f877",  # vzeroupper
        "c5fd70c04e",  # vpshufd $0x4e
        "c4e37d46c120",  # vperm2i128
        "c4e27d18057856341200"[:18],  # vbroadcastss 0x…(%rip)
        "62f1fe486f4101",  # vmovdqu64 0x40(%rcx),%zmm0
        "62f37d48031001"[:14],  # valignd $0x1
        "c8100000",  # enter
        "a10123456789abcdef",  # movabs
    ],
)
def test_an_instruction_of_x86_64_ends_where_it_does(code: str) -> None:
    assert list(beginnings(bytes.fromhex(code) + b"\xc3", "x86_64")) == [0, len(code) // 2]


def test_what_is_no_instruction_ends_it() -> None:
    assert list(beginnings(b"\x55\x06\xc3", "x86_64")) == [0, 1]
    assert list(beginnings(b"\x55\x48\x89", "x86_64")) == [0, 1]
    assert list(beginnings(b"\x55\x8f\xe9\x78\xe1\xc2\xc3", "x86_64")) == [0, 1]  # XOP
    assert list(beginnings(bytes(12), "aarch64")) == [0, 4, 8]


@given(st.binary(max_size=64))
def test_any_bytes(code: bytes) -> None:
    found = list(beginnings(code, "x86_64"))
    assert found == sorted(set(found))
    assert all(1 <= after - before <= 30 for before, after in zip(found, found[1:]))

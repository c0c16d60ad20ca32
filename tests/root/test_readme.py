"""The examples of README's section on the library do what stands there."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

import libbpf_ctypes
from libbpf_ctypes import BpfObject, raw

from ..conftest import Compile

README = Path(__file__).resolve().parents[2] / "README.md"
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u32 pid;
};
const struct event *const event_layout = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(void *ctx __attribute__((unused)))
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *count = bpf_map_lookup_elem(&counts, &pid);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counts, &pid, &one, BPF_NOEXIST);
	bpf_ringbuf_output(&events, &pid, sizeof(pid), 0);
	return 0;
}

SEC("kprobe")
int on_malloc(void *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), one = 1;
	__u32 key = 0xffffffff;	/* no process */

	if (cookie == 7)
		bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""


def example(word: str) -> str:
    """The one Python example with this word in it."""
    text = README.read_text(encoding="utf-8")
    (found,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if word in block)
    return str(found)


@pytest.fixture
def names(compile_bpf: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All public names, in a folder that has the object."""
    compile_bpf(SOURCE, name="tool.bpf.o").rename(tmp_path / "tool.bpf.o")
    monkeypatch.chdir(tmp_path)
    return {name: getattr(libbpf_ctypes, name) for name in libbpf_ctypes.__all__}


def test_an_object_of_your_own(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    source = example("on_malloc")
    ten = "[:10]"
    assert ten in source
    exec(source.replace(ten, ""), names)
    lines = capsys.readouterr().out.splitlines()
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == sorted(numbers, reverse=True)
    counts = dict(line.split() for line in lines)
    assert counts["0"] == "1"
    assert "4294967295" in counts, "malloc was called, with the cookie"
    assert int(counts[str(os.getpid())]) > 1
    assert names["obj"].closed


def test_a_task(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exec(example("async for"), names)

    async def show_until_ours_came(obj: BpfObject) -> None:
        task = asyncio.ensure_future(names["show"](obj))
        while str(os.getpid()) not in capsys.readouterr().out.split():
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with BpfObject.open("tool.bpf.o") as obj:
        obj.load()
        obj.attach()
        asyncio.run(asyncio.wait_for(show_until_ours_came(obj), 120))


def test_plain_libbpf() -> None:
    space: dict[str, Any] = {}
    exec(example("bpf_map_create_opts"), space)
    assert raw.bpf_map_freeze(space["fd"]) == 0
    os.close(space["fd"])

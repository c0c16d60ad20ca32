"""Runs in the guest: all answers of features, and what links say of themselves, as JSON.

``python features_guest.py OBJECT``: OBJECT is compiled by test_features.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from libbpf_ctypes import BpfError, BpfObject, Btf, features, introspection
from libbpf_ctypes.enums import MapType, ProgramType

HELPERS = [
    (ProgramType.KPROBE, "ringbuf_output"),
    (ProgramType.KPROBE, "get_attach_cookie"),
    (ProgramType.KPROBE, "xdp_adjust_head"),
    (ProgramType.KPROBE, "cgrp_storage_get"),
    (ProgramType.KPROBE, "override_return"),
    (ProgramType.TRACING, "get_func_ip"),
    (ProgramType.TRACING, "xdp_adjust_head"),
    (ProgramType.LSM, "get_attach_cookie"),
    (ProgramType.XDP, "xdp_adjust_head"),
    (ProgramType.XDP, "user_ringbuf_drain"),
]
#: For each program of the object, on_NAME: what is called to attach it.
ATTACH: dict[str, Any] = {
    "kprobe": lambda p: p.attach_kprobe("vfs_read", cookie=7),
    "kretprobe": lambda p: p.attach_kprobe("vfs_read", retprobe=True),
    "multi": lambda p: p.attach_kprobe_multi(["vfs_read", "vfs_write"], cookie=[8, 9]),
    "uprobe": lambda p: p.attach_uprobe("libc.so.6", "getppid", cookie=5),
    "tracepoint": lambda p: p.attach_tracepoint("sched", "sched_switch"),
    "raw": lambda p: p.attach_raw_tracepoint("sched_switch"),
    "fentry": lambda p: p.attach_trace(),
    "lsm": lambda p: p.attach_lsm(),
    "iterator": lambda p: p.attach_iter(),
    "egress": lambda p: p.attach_cgroup(cgroup()),
    "xdp": lambda p: p.attach_xdp("lo"),
}


def cgroup() -> str:
    """The folder of all processes, mounted if nobody has."""
    folder = Path("/sys/fs/cgroup")
    if not (folder / "cgroup.controllers").exists():
        folder = Path("/tmp/cgroup2")
        folder.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "none", str(folder)], check=True)
    return str(folder)


def helpers() -> dict[str, Any]:
    """Whether each helper is there."""
    return {f"{kind.name} {name}": features.has_helper(kind, name) for kind, name in HELPERS}


def links(path: str) -> dict[str, Any]:
    """What link_info says of each link, or why there is none."""
    told: dict[str, Any] = {}
    for name, attach in ATTACH.items():
        try:
            with BpfObject.open(path) as obj:
                for other, program in obj.programs.items():
                    program.autoload = other == f"on_{name}"
                obj.load()
                with attach(obj.programs[f"on_{name}"]) as link:
                    info = link.info
                    listed = [i for i in introspection.links() if i.id == info.id]
                    told[name] = {
                        "type": info.type.name,
                        "kind": type(info.details).__name__,
                        "details": info.details and info.details._asdict(),
                        "listed": listed == [info],
                    }
        except BpfError as error:
            told[name] = {"error": str(error)}
    return told


def types() -> dict[str, Any]:
    """BTF of the kernel, and of its modules."""
    with Btf.kernel() as kernel:
        modules = Btf.modules()
        told: dict[str, Any] = {
            "prototype": kernel.function("do_sys_openat2").prototype,
            "task": kernel.layout("struct task_struct").size,
            "modules": modules,
        }
        name = "overlay"
        with Btf.module(name, kernel) as overlay:
            own = [entry.name for entry in overlay.types(own=True)]
            told["own"] = "ovl_open" in own and "task_struct" not in own
            told["ovl_open"] = overlay.function("ovl_open").prototype
            told["dump"] = "struct ovl_fs {" in overlay.dump("struct ovl_fs")
        with Btf.module(name) as alone:
            told["alone"] = alone.function("ovl_open").prototype
    names = {info.name: info for info in introspection.btfs()}
    told["listed"] = names["vmlinux"].kernel_btf and names[name].kernel_btf
    with Btf.open_id(names[name].id) as by_id:
        told["by_id"] = by_id.function("ovl_open").prototype
    return told


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> None:
    """Prints all."""
    before = descriptors()
    told = {
        "report": {line.name: line.answer for line in features.report()},
        "reasons": [line.reason for line in features.report() if line.reason],
        "methods": {
            what: features.attach_methods(what) for what in ("kprobe", "uprobe", "tracepoint", "tc")
        },
        "helpers": helpers(),
        "missing": features.missing_capabilities(MapType.HASH),
        "links": links(sys.argv[1]),
        "types": types(),
        "left": descriptors() - before,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

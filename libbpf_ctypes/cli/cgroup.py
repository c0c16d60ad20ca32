"""The cgroup that ``--cgroup`` names: a path of its, or the id of a container."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import BpfError
from .text import escape

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_HINT = (
    "Mount it first, at a folder of yours: 'mkdir -p /run/cgroup2 && "
    "mount -t cgroup2 cgroup2 /run/cgroup2'."
)

#: The id of a container as part of a cgroup's name: docker-ID.scope, cri-containerd-ID.scope,
#: libpod-ID.scope, or the id alone.
_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{32,64}(?![0-9a-f])")
_MONITOR = "-conmon-"  # the process that watches over a container of Podman or CRI-O

_MOST_OFFERS = 4


def cgroup_root() -> Path:
    """Where the cgroups of version 2 are mounted: BPF programs know no others.

    Raises: BpfError, with a hint: nowhere.
    Source: proc_pid_mountinfo(5).
    """
    found: list[Path] = []
    for kind, device, within, place in _mounts():
        # Another mount may lie on top of it.
        if kind == "cgroup2" and _device(place) == device:
            if within == "/":
                return place
            found.append(place)
    if found:  # a container that sees a part of them
        return found[0]
    reason = "no cgroups of version 2 are mounted"
    raise BpfError("find the cgroups", errno.ENOENT, reason, hint=_MOUNT_HINT)


def find_cgroup(text: str) -> Path:
    """The folder of a cgroup of version 2; its inode's number is the cgroup's id.

    Args:
        text: its path, absolute or below the cgroups' root, as in /proc/PID/cgroup; or a
            container's id as docker, podman and crictl print it, or the beginning of one.

    Raises: BpfError, with a hint: there is none, or several; or none of version 2.
    """
    operation = f"find cgroup {escape(text)}"
    if not text or "\0" in text:
        hint = "Name its path, such as /system.slice/ssh.service, or a container's id."
        raise BpfError(operation, errno.EINVAL, "this is no path", hint=hint)
    root = cgroup_root()
    device = _device(root)
    for place in (Path(text), root / text.lstrip("/")):
        if place.is_absolute() and _device(place) == device and place.is_dir():
            return place
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", text):
        containers = list(_containers(root, text.lower()))
        if len(containers) == 1:
            return containers[0]
        if containers:
            listed = _listed(root, containers)
            hint = f"Give more of its id, or the path of one: {listed}."
            raise BpfError(operation, errno.EINVAL, f"{len(containers)} cgroups fit", hint=hint)
    raise BpfError(operation, errno.ENOENT, "there is none", hint=_hint(root, text))


def _containers(root: Path, beginning: str) -> Iterator[Path]:
    """The cgroups of containers with such an id, but not those within them."""
    for folder, names, _files in os.walk(root):
        for name in list(names):
            found = _CONTAINER.search(name)
            if found and found[0].startswith(beginning) and _MONITOR not in name:
                names.remove(name)
                yield Path(folder, name)


def _hint(root: Path, text: str) -> str:
    """Why there is no such cgroup, or which one may be meant."""
    if any(kind == "cgroup" and _device(Path(text)) == device for kind, device, *_ in _mounts()):
        return f"This is one of version 1: BPF programs know those of version 2, below {root}."
    last = text.rstrip("/").rpartition("/")[2].lower()
    near: list[Path] = []
    for folder, names, _files in os.walk(root):
        near += [Path(folder, name) for name in names if last and last in name.lower()]
        if len(near) > _MOST_OFFERS:
            break
    if near:
        return f"Did you mean: {_listed(root, near)}?"
    old = any(kind == "cgroup" for kind, *_ in _mounts())
    hint = f"'cat /proc/PID/cgroup' tells that of a process, in the line '0::'; root is {root}."
    if old:
        hint += " Containers may be in cgroups of version 1 here, which BPF programs do not know."
    return hint


def _listed(root: Path, places: list[Path]) -> str:
    names = [escape(f"/{place.relative_to(root)}") for place in sorted(places)]
    return ", ".join(names[:_MOST_OFFERS]) + ", …" * (len(names) > _MOST_OFFERS)


def _device(place: Path) -> int:
    """The number of the file system that it is in; -1: there is no such file."""
    try:
        return place.stat().st_dev
    except (OSError, ValueError):
        return -1


def _mounts() -> Iterator[tuple[str, int, str, Path]]:
    """Each mount's type, device, what of its file system is mounted, and where."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        words, _, rest = line.partition(" - ")
        _number, _parent, device, within, place = words.split()[:5]
        major, _, minor = device.partition(":")
        number = os.makedev(int(major), int(minor))
        yield rest.split()[0], number, _unquoted(within), Path(_unquoted(place))


def _unquoted(text: str) -> str:
    """A name as it is: blanks and backslashes are octal numbers in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)

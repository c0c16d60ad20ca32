"""Which cgroup is meant: paths, containers' ids, and what is said where none is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libbpf_ctypes import BpfError
from libbpf_ctypes.cli import cgroup
from libbpf_ctypes.cli.cgroup import cgroup_root, find_cgroup

DOCKER = "4f1c9e0d" * 8
PODMAN = "4f1caaaa" * 8
KUBERNETES = "be" * 32
MACHINE = f"machine.slice/libpod-{PODMAN}.scope"

PATHS = (
    f"system.slice/docker-{DOCKER}.scope/init.scope",
    f"machine.slice/libpod-{PODMAN}.scope/container",
    f"machine.slice/libpod-conmon-{PODMAN}.scope",
    f"kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{KUBERNETES}.scope",
    "system.slice/ssh.service",
    "user.slice/cafe",
)


def mounted(place: Path | str, kind: str = "cgroup2", within: str = "/", device: int = -1) -> str:
    """A line of mountinfo."""
    if device < 0:
        device = os.stat(place).st_dev  # noqa: PTH116  # it may be quoted
    numbers = f"{os.major(device)}:{os.minor(device)}"
    return f"36 25 {numbers} {within} {place} rw,relatime shared:9 - {kind} none rw\n"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the mounts: of cgroups in tmp_path/cgroups."""
    for path in PATHS:
        (tmp_path / "cgroups" / path).mkdir(parents=True)
    file = tmp_path / "mountinfo"
    file.write_text(mounted("/proc", "proc") + mounted(tmp_path / "cgroups"))
    monkeypatch.setattr(cgroup, "_MOUNTS", file)
    return file


@pytest.fixture
def root(mounts: Path) -> Path:
    """Where the cgroups are."""
    return mounts.parent / "cgroups"


@pytest.mark.parametrize("text", ["system.slice/ssh.service", "/system.slice/ssh.service/"])
def test_a_path_below_the_root(root: Path, text: str) -> None:
    assert find_cgroup(text) == root / "system.slice" / "ssh.service"


def test_an_absolute_path_and_the_root_itself(root: Path) -> None:
    assert find_cgroup(f"{root}/user.slice") == root / "user.slice"
    assert find_cgroup(str(root)) == root
    assert cgroup_root() == root


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (DOCKER, PATHS[0].rpartition("/")[0]),
        (DOCKER[:12].upper(), PATHS[0].rpartition("/")[0]),
        (PODMAN[:5], PATHS[1].rpartition("/")[0]),
        (KUBERNETES[:12], PATHS[3]),
    ],
)
def test_a_container(root: Path, text: str, path: str) -> None:
    assert find_cgroup(text) == root / path


def test_a_path_comes_before_a_container(root: Path) -> None:
    assert find_cgroup("user.slice/cafe") == root / "user.slice" / "cafe"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "such as /system.slice/ssh.service, or a container's id"),
        ("a\0b", "this is no path"),
        ("4f1c", f"2 cgroups fit (EINVAL). Give more of its id, or the path of one: /{MACHINE}, "),
        ("ssh.service", "Did you mean: /system.slice/ssh.service?"),
        ("/nowhere/SSH", "Did you mean: /system.slice/ssh.service?"),
        (".s", ", …?"),
        ("sliec", "'cat /proc/PID/cgroup' tells that of a process"),
        (DOCKER[1:], "there is none"),
        ("bad\x1bname", r"find cgroup bad\x1bname: there is none"),
    ],
)
@pytest.mark.usefixtures("mounts")
def test_what_is_said_where_none_fits(text: str, told: str) -> None:
    with pytest.raises(BpfError) as caught:
        find_cgroup(text)
    assert told in str(caught.value)


def test_a_cgroup_of_version_1(mounts: Path) -> None:
    mounts.write_text(mounts.read_text() + mounted("/proc", "cgroup"))
    with pytest.raises(BpfError, match=r"one of version 1: .* version 2, below /"):
        find_cgroup("/proc/sys")
    with pytest.raises(BpfError, match="Containers may be in cgroups of version 1 here"):
        find_cgroup("sliec")


def test_a_mount_under_another_one_and_a_part_of_the_cgroups(root: Path, mounts: Path) -> None:
    hidden = mounted(root / "user.slice", device=os.makedev(0, 0xFFFF))
    part = mounted(root / "system.slice", within="/docker")
    mounts.write_text(hidden + part)
    assert cgroup_root() == root / "system.slice"
    mounts.write_text(hidden + part + mounted(root))
    assert cgroup_root() == root


def test_a_mount_point_with_a_blank(root: Path, mounts: Path) -> None:
    (root / "a b").mkdir()
    quoted = mounted(root).replace("cgroups ", "cgroups/a\\040b ")
    mounts.write_text(quoted)
    assert cgroup_root() == root / "a b"


@pytest.mark.parametrize("there", [True, False])
def test_no_cgroups_are_mounted(mounts: Path, there: bool) -> None:
    if there:
        mounts.write_text(mounted("/proc", "proc"))
    else:
        mounts.unlink()
    with pytest.raises(BpfError, match=r"no cgroups of version 2 are mounted.*mount -t cgroup2"):
        find_cgroup("system.slice")

"""What the benchmark needs, from public packages; what cannot be had is told, not fatal."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .process import FailedError, say

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libbpf_ctypes"
TRACEFS = Path("/sys/kernel/tracing")
SYSTEM_PYTHON = "/usr/bin/python3"

#: Of each Debian package a file that tells that it is there.
PACKAGES = {
    "clang": "/usr/bin/clang",
    "gcc": "/usr/bin/gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "libbpf-dev": "/usr/include/bpf/libbpf.h",
    "python3-venv": "/usr/share/doc/python3-venv",
    "python3-bpfcc": "/usr/lib/python3/dist-packages/bcc/__init__.py",
    "bpftrace": "/usr/bin/bpftrace",
    "libbpf-tools": "/usr/sbin/opensnoop",
}

#: Needed by ours, and asked for one by one because a peer may have no build here.
REQUIREMENTS = ("construct", "docopt-ng", "numpy", "matplotlib")
OPTIONAL = ("pylibbpf",)

#: Kernel headers of another kernel do: BCC's program here includes no kernel structure.
HEADERS_SUITE = "trixie"
MACHINES = {"x86_64": ("x86", "amd64"), "aarch64": ("arm64", "arm64")}


class Setup:
    """Where all that was set up is; ``missing`` says why a peer is not there."""

    def __init__(self, work: Path) -> None:
        if platform.machine() not in MACHINES:
            raise FailedError(f"the load knows no {platform.machine()}: see load/load.bpf.c")
        self.work = work
        self.missing: dict[str, str] = {}
        self.target, self.debian = MACHINES[platform.machine()]
        self.python = str(CACHE / "benchmark-venv" / "bin" / "python")
        self.producer = work / "producer"
        self.c_reader = work / "c_reader"
        self.library = work / "libtarget.so"
        self.bcc_environment: dict[str, str] = {}

    def all(self) -> None:
        """Sets everything up."""
        self._install_packages()
        self._make_venv()
        self._find_headers()
        compiler = shutil.which("cc") or shutil.which("gcc") or "gcc"
        here = ROOT / "benchmarks"
        flags = ["-O2", "-Wall", "-pthread"]
        _run([compiler, *flags, str(here / "load/producer.c"), "-o", str(self.producer)])
        source = str(here / "readers/c_reader.c")
        self._try("C", [compiler, *flags, source, "-o", str(self.c_reader), "-lbpf"])
        source = str(here / "load/target.c")
        _run([compiler, "-O0", "-shared", "-fPIC", source, "-o", str(self.library)])

    def load_object(self, *flags: str, name: str = "load.bpf.o") -> Path:
        """The load's BPF object, compiled with these flags."""
        path = self.work / name
        multiarch = subprocess.run(
            ["gcc", "-print-multiarch"], capture_output=True, text=True, check=False
        ).stdout.strip()
        command = ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v2", "-Wall", "-Werror"]
        command += ["-idirafter", f"/usr/include/{multiarch}", f"-D__TARGET_ARCH_{self.target}"]
        command += [*flags, "-c", str(ROOT / "benchmarks/load/load.bpf.c"), "-o", str(path)]
        _run(command)
        return path

    def _try(self, peer: str, command: list[str]) -> None:
        """Runs a command that one peer depends on."""
        try:
            _run(command)
        except FailedError as error:
            self.missing[peer] = str(error)
            say(f"without {peer}: {error}")

    def _install_packages(self) -> None:
        packages = [name for name, file in PACKAGES.items() if not Path(file).exists()]
        if not packages:
            return
        if not shutil.which("apt-get"):
            say(f"no apt-get here: install what corresponds to {' '.join(packages)}")
        else:
            say(f"installing {' '.join(packages)}")
            environment = {"DEBIAN_FRONTEND": "noninteractive"}
            install = ["apt-get", "-qq", "-y", "install", "--no-install-recommends"]
            with contextlib.suppress(FailedError):
                _run(["apt-get", "-qq", "update"])
            for name in packages:  # one that is not there must not keep the others away
                try:
                    _run([*install, name], environment)
                except FailedError as error:
                    self.missing[_PEER_OF.get(name, name)] = f"{name}: {error}"
        for name, peer in _PEER_OF.items():
            if not Path(PACKAGES[name]).exists():
                self.missing.setdefault(peer, f"{PACKAGES[name]} is not there")

    def _make_venv(self) -> None:
        # BCC's interpreter, so that both run at the same speed: Debian's is built with
        # profiles, and a third faster than one that is not.
        interpreter = SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable
        folder = CACHE / "benchmark-venv"
        wanted = " ".join([interpreter, _version(interpreter), *REQUIREMENTS])
        stamp = folder / "ready"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            say(f"installing {' '.join(REQUIREMENTS)} in {folder}")
            CACHE.mkdir(parents=True, exist_ok=True)
            _run([interpreter, "-m", "venv", "--clear", str(folder)])
            _run([*self._pip(), *REQUIREMENTS])
            stamp.write_text(wanted, encoding="utf-8")
        # As pip leaves an installed package; it counts where the start is measured.
        _run([self.python, "-m", "compileall", "-q", str(ROOT / "libbpf_ctypes")])
        for name in OPTIONAL:
            if self._imports(name):
                continue
            self._try(name, [*self._pip(), "--only-binary", ":all:", name])
            if name not in self.missing and not self._imports(name):
                self.missing[name] = "it is installed, and cannot be imported"

    def _pip(self) -> list[str]:
        return [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]

    def _imports(self, name: str) -> bool:
        done = subprocess.run([self.python, "-c", f"import {name}"], capture_output=True)
        return done.returncode == 0

    def _find_headers(self) -> None:
        """BCC wants kernel headers even for a program that includes none of them."""
        build = Path(f"/lib/modules/{platform.release()}/build")
        if build.exists() or Path("/sys/kernel/kheaders.tar.xz").exists():
            return
        folder = CACHE / "kernel-headers"
        if not (folder / "ready").exists():
            say(f"this kernel has no headers, which BCC wants: Debian's go to {folder}")
            try:
                self._fetch_headers(folder)
            except FailedError as error:
                self.missing.setdefault("BCC", f"no kernel headers: {error}")
                return
        self.bcc_environment = {"BCC_KERNEL_SOURCE": str(folder)}

    def _fetch_headers(self, folder: Path) -> None:
        """Debian splits them in two packages; here they lie in one folder, as BCC wants them."""
        shutil.rmtree(folder, ignore_errors=True)
        parts = [folder.with_name(folder.name + end) for end in ("-machine", "-common")]
        package = f"linux-headers-{self.debian}"
        try:
            for part in parts:
                shutil.rmtree(part, ignore_errors=True)
                fetch = [str(ROOT / "bin/debian-package"), "--depends-prefix", "linux-headers-"]
                _run([*fetch, HEADERS_SUITE, package, str(part)])
                # The second is what the first depends on.
                package = next((part / "usr/src").glob("linux-headers-*")).name
            for part in reversed(parts):
                source = next((part / "usr/src").glob("linux-headers-*"))
                for name in ("include", "arch"):
                    shutil.copytree(source / name, folder / name, symlinks=True, dirs_exist_ok=True)
            (folder / "ready").touch()
        finally:
            for part in parts:
                shutil.rmtree(part, ignore_errors=True)


def _version(python: str) -> str:
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


_PEER_OF = {"python3-bpfcc": "BCC", "bpftrace": "bpftrace", "libbpf-tools": "opensnoop"}


@contextlib.contextmanager
def tracefs() -> Iterator[None]:
    """Mounts tracefs, which bpftrace and opensnoop need, where it is not."""
    if (TRACEFS / "events").exists():
        yield
        return
    say(f"mounting tracefs at {TRACEFS}, until the end")
    _run(["mount", "-t", "tracefs", "tracefs", str(TRACEFS)])
    try:
        yield
    finally:
        subprocess.run(["umount", str(TRACEFS)], capture_output=True, check=False)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Runs a command. Raises: FailedError with the last line of what it said."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise FailedError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "rror: " in line]  # a compiler's first one
        reason = (errors or lines[-1:] or [f"status {done.returncode}"])[0].strip()
        raise FailedError(f"{Path(command[0]).name}: {reason}")

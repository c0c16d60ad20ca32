"""The man page and the completions: made of the help, and tried in their own programs."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libbpf_ctypes.cli import synopsis, usage

from ..conftest import lacking, need
from .helpers import PATIENCE, ROOT, usage_text

DOC = usage_text()
SHARE = ROOT / "share"
PAGE = SHARE / "man" / "man1" / "ebpf-tool.1"
BASH = SHARE / "bash-completion" / "completions" / "ebpf-tool"
ZSH = SHARE / "zsh" / "site-functions"
FISH = SHARE / "fish" / "vendor_completions.d" / "ebpf-tool.fish"

#: What each shell is told at its beginning.
SHELLS = {
    "bash": f"source {BASH}",
    "zsh": f"fpath=({ZSH} $fpath); autoload -U compinit; compinit -D -u",
}
_PRINTS_ITS_WORDS = "ebpf-tool() { printf '<%s>' got \"$@\"; echo; }"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    need(str(command[0]))
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Shell:
    """An interactive shell on a terminal, in a folder of its own."""

    def __init__(self, shell: str, folder: Path) -> None:
        setup = folder / ".zshrc"  # of zsh by its name, of bash by an option
        text = f"{SHELLS[shell]}\n{_PRINTS_ITS_WORDS}\nPS1='READY '\n"
        setup.write_text(text, encoding="utf-8")
        options = {"bash": ["--noprofile", "--rcfile", str(setup)], "zsh": ["-d"]}[shell]
        self._terminal, child = pty.openpty()
        self._process = subprocess.Popen(
            [need(shell), *options, "-i"],
            cwd=folder,
            env={
                **os.environ,
                "TERM": "dumb",
                "INPUTRC": os.devnull,
                "ZDOTDIR": str(folder),
                "LC_ALL": "C.UTF-8",
            },
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        os.close(child)
        self._read_until(b"READY ")

    def words_after_tab(self, line: str) -> list[str]:
        """The words that ebpf-tool gets after LINE, Tab and Enter."""
        os.write(self._terminal, f"{line}\t\n".encode())
        seen = self._read_until(rb"<got>[^\r\n]*\r?\n.*READY ")
        found = re.findall(rb"<got>([^\r\n]*)\r?\n", seen)
        return re.findall(r"<(.*?)>", found[-1].decode())

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read_until(self, pattern: bytes) -> bytes:
        """What it prints until the pattern is met."""
        seen = b""
        while not re.search(pattern, seen, re.S):
            ready, _, _ = select.select([self._terminal], [], [], PATIENCE)
            assert ready, f"no {pattern!r} in {seen!r}"
            seen += os.read(self._terminal, 1 << 16)
        return seen


def fish_offers(line: str, folder: Path) -> list[str]:
    """What fish offers for the last word."""
    code = f"source {FISH}; complete -C $argv[1]"
    done = run("fish", "--no-config", "-c", f"cd {folder}; {code}", line, HOME=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return [each.split("\t")[0] for each in done.stdout.splitlines()]


def functions() -> list[str]:
    """Names of the kernel's own functions."""
    try:
        text = Path("/proc/kallsyms").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = re.findall(r"^\S+ [tT] ([a-z]\w+)$", text, re.M)
    return names or lacking("/proc/kallsyms cannot be read")


@pytest.fixture(scope="module")
def unique() -> tuple[str, str]:
    """A function's name and a beginning that it shares with no other."""
    text = Path("/proc/kallsyms").read_text(encoding="utf-8")
    everything = re.findall(r"^\S+ \S ([^\t\n]+)", text, re.M)
    for name in functions():
        beginning = name[:-1]
        # The system calls' own names are offered, too: do_sys_open is none of them.
        if "_sys_" not in name and not [
            each
            for each in everything
            if each != name and re.sub(r"^__[a-z0-9]+_sys_", "", each).startswith(beginning)
        ]:
            return name, beginning
    raise AssertionError("every function's name begins as another's")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, an object file and others."""
    folder = tmp_path_factory.mktemp("completed")
    for name in ("trace.rec", "tool.bpf.o", "odd name.txt", "zz.txt"):
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module", params=list(SHELLS))
def shell(request: pytest.FixtureRequest, folder: Path) -> Iterator[Shell]:
    shell = Shell(request.param, folder)
    yield shell
    shell.close()


def test_they_are_up_to_date(tmp_path: Path) -> None:
    done = run(sys.executable, ROOT / "bin" / "make-share", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 4
    for name, path in made.items():
        there = (SHARE / name).read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8") == there, f"share/{name} is old: run bin/make-share"


def test_the_package_installs_them() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    installed = dict(re.findall(r"^(share/\S+) = (share/\S+)$", text, re.M))
    files = [path for path in SHARE.rglob("*") if path.is_file()]
    made = {str(f.relative_to(ROOT)) for f in files if "templates" not in f.parts}
    assert set(installed.values()) == made
    assert all(str(Path(file).parent) == place for place, file in installed.items())


@pytest.mark.parametrize("width", ["80", "60", "200"])
def test_man_renders_the_page_without_a_warning(width: str) -> None:
    done = run("man", "--warnings", "-l", PAGE, MANWIDTH=width, MANPAGER="cat", LC_ALL="C.UTF-8")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(re.sub(".\x08", "", done.stdout).split())
    assert "EBPF-TOOL(1)" in text
    for option in synopsis.options(DOC):
        assert re.search(rf"(?<![\w-]){option.long}\b", text), option
    for command in usage.COMMANDS:
        for line in synopsis.examples(DOC, command):
            assert " ".join(line.split()) in text, line


def test_mandoc_finds_nothing_wrong_with_the_page() -> None:
    done = run("mandoc", "-T", "lint", "-W", "style", PAGE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# A line, and what it is after Tab: the same in bash and in zsh.
COMPLETED = [
    ("ebpf-tool kret", "kretprobe"),
    ("ebpf-tool lat", "latency"),
    ("ebpf-tool kprobe f --kern", "kprobe f --kernel-stack"),
    ("ebpf-tool kretprobe f --slow", "kretprobe f --slower"),
    ("ebpf-tool latency f --lin", "latency f --linear"),
    ("ebpf-tool count f -d 5 --includ", "count f -d 5 --include-self"),
    ("ebpf-tool kprobe f --time=wa", "kprobe f --time=wall"),
    ("ebpf-tool kprobe f --color al", "kprobe f --color always"),
    ("ebpf-tool kprobe f --format=chr", "kprobe f --format=chrome-trace"),
    ("ebpf-tool count f --format fol", "count f --format folded"),
    ("ebpf-tool latency f --by comm,func", "latency f --by comm,function"),
    ("ebpf-tool count f --by user", "count f --by user-stack"),
    ("ebpf-tool kprobe f --fields=time,com", "kprobe f --fields=time,comm"),
    ("ebpf-tool replay t", "replay trace.rec"),
    ("ebpf-tool schema t", "schema tool.bpf.o"),
    ("ebpf-tool kprobe f -o z", "kprobe f -o zz.txt"),
    ("ebpf-tool kprobe f --record o", "kprobe f --record odd name.txt"),
    ("ebpf-tool kprobe f --uid roo", "kprobe f --uid root"),
]


@pytest.mark.parametrize(("line", "result"), COMPLETED)
def test_tab(shell: Shell, line: str, result: str) -> None:
    assert " ".join(shell.words_after_tab(line)).removesuffix("=") == result


@pytest.mark.parametrize("words", ["kprobe", "kprobe -d 5 --comm a vfs_read", "count", "list"])
def test_tab_behind_a_function(shell: Shell, words: str, unique: tuple[str, str]) -> None:
    name, beginning = unique
    found = shell.words_after_tab(f"ebpf-tool {words} {beginning}")
    assert found == [*words.split(), name]


@pytest.mark.parametrize(("line", "result"), COMPLETED)
def test_tab_in_fish(line: str, result: str, folder: Path) -> None:
    offers = fish_offers(line, folder)
    last = " ".join(result.split(" ")[line.count(" ") - 1 :])
    assert offers[0].removesuffix("=").replace("\\", "") == last
    # Of files fish offers all, the fit ones first.
    assert len(offers) == 1 or last in ("trace.rec", "tool.bpf.o")


def test_a_function_in_fish(unique: tuple[str, str], folder: Path) -> None:
    name, beginning = unique
    assert fish_offers(f"ebpf-tool kprobe {beginning}", folder) == [name]


@pytest.mark.parametrize(("command", "words"), [("count", 2), ("latency", 1), ("list", 0)])
def test_what_else_a_command_counts_in_fish(command: str, words: int, folder: Path) -> None:
    """Other shells look up the same."""
    lines = [f"ebpf-tool {command} {begun}" for begun in ("upr", "tracepo")]
    offers = [offer for line in lines for offer in fish_offers(line, folder)]
    wanted = ["uprobe:", "tracepoint:"][:words]
    assert [offer for offer in offers if offer.endswith(":")] == wanted


def test_what_a_process_is_called_is_no_command(shell: Shell, folder: Path) -> None:
    code = (
        "import sys; open('/proc/self/comm', 'w').write('$(touch x)'); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = shell.words_after_tab("ebpf-tool kprobe f --comm \\$\\(touc")
        process.kill()
    assert not (folder / "x").exists()
    assert found == ["kprobe", "f", "--comm", "$(touch x)"]

"""What the words of uprobe and uretprobe name: functions of programs and shared libraries."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..attach_uprobes import find_binary
from ..errors import BpfError
from .elf_symbols import ElfSymbols
from .elf_table import ElfFunction, open_regular, rank
from .functions import VARIANT, glob_regex
from .text import escape
from .usage import UsageError
from .user_safety import can_return, check_place, check_returns

#: Bytes that tell a first instruction from others.
_CODE = 4
#: How many are listed where a name stands for more, or for none.
_LISTED = 12
_OFFSET = re.compile(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,18}")

#: Behind the path of a file that is there no more, in /proc.
_DELETED = " (deleted)"

_logger = logging.getLogger(__name__)


class UserFunction(NamedTuple):
    """A function of a program or library to be probed.

    Attributes:
        path: of the file, as this process can open it: ``/proc/1234/root/usr/lib/libc.so.6``.
        offset: where in the file the probe goes.
        symbol: ``open64``; of a place without a name its address, ``0x1234``.
        label: what the user sees and types: ``libc:open64``, ``bash:main+0x10``.
        inside: bytes from the function's first instruction: there its arguments may be gone.
        code: the first bytes of what is there.
    """

    path: str
    offset: int
    symbol: str
    label: str
    inside: int
    code: bytes

    @property
    def probe(self) -> str:
        """By what it is traced."""
        return "uprobe"

    @property
    def module(self) -> str:
        """The program or library, as the user calls it."""
        return self.label.rpartition(f":{self.symbol}")[0]

    @property
    def syscall(self) -> str:
        """No system call, whose arguments would be unwrapped."""
        return ""


class _Word(NamedTuple):
    """BINARY:SYMBOL+OFFSET, taken apart."""

    text: str
    binary: str
    name: str
    offset: int

    @property
    def is_glob(self) -> bool:
        return bool(set(self.name) & set("*?["))


class _Binary:
    """A file of code, opened; a context manager.

    Args: path: that can be opened. name: what the user calls it.
    Raises: BpfError: it cannot be read, or is no such file.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        try:
            self.symbols = ElfSymbols.open(path)
        except BpfError as error:
            operation = f"read {escape(name)}"
            hint = _script_hint(path)
            raise BpfError(operation, error.errno, error.strerror or "", hint=hint) from None
        if not self.symbols.is_64:
            self.symbols.close()
            reason = "it is a 32-bit program, whose registers are others"
            raise BpfError(f"probe {escape(name)}", errno.ENOEXEC, reason)
        self.offset_of, self.at = self.symbols.offset_of, self.symbols.at

    def __enter__(self) -> _Binary:
        return self

    def __exit__(self, *exception: object) -> None:
        self.symbols.close()

    def functions(self, pattern: str, *, own: bool = False) -> list[ElfFunction]:
        """Those whose whole name matches, by name and address. Args: own: that it has itself."""
        matches = re.compile(pattern).fullmatch
        found: dict[tuple[str, int], ElfFunction] = {}
        for each in self.symbols.functions(own=own):
            if not matches(each.name) or self.offset_of(each.address) is None:
                continue
            before = found.setdefault(each[:2], each)
            if before.is_old:  # it has two versions, and one of them is of today
                found[each[:2]] = each
        return sorted(found.values())


def _script_hint(path: str) -> str:
    """What to trace in place of a script; "": it is none."""
    try:
        with open_regular(path) as file:
            head = os.fsdecode(file.read(256) or b"")
    except (OSError, ValueError):
        return ""
    program = head[2:].partition("\n")[0].strip()
    return f"It is a script: trace what runs it ({escape(program)})." if head[:2] == "#!" else ""


def find_user_functions(
    words: list[str],
    *,
    pids: tuple[int, ...] = (),
    all_of: bool = False,
    returns: bool = False,
) -> list[UserFunction]:
    """The functions that these words name, each once, in the words' order, a glob's by name.

    Args:
        words: ``libc:open64``, ``/path/to/program:main``, ``libc:str*``, ``libc:open64+0x10``,
            ``program:0x1234`` with an address as ``nm`` prints it. Of processes, ``libc:open64``
            is of the library that they have loaded, and ``:main`` of their own programs.
        pids: the processes, as -p names them; empty: of any.
        all_of: all of that name, also for programs that were linked long ago, and the
            compiler's variants of it.
        returns: their returns are to be probed.

    Raises: UsageError; BpfError: there is none, or the name stands for several (the hint lists
        what there is), or a probe there would break the program.
    """
    found: dict[tuple[int, int, int], UserFunction] = {}
    for text in words:
        word = _take_apart(text)
        for path, name in _paths(word, pids):
            with _Binary(path, name) as binary:
                status = Path(path).stat()
                functions = _functions(word, binary, all_of=all_of)
                if returns:
                    check_returns(text, binary.symbols, (each.symbol for each in functions))
                    left_out = [each.symbol for each in functions if not can_return(each.symbol)]
                    functions = [each for each in functions if can_return(each.symbol)]
                    if left_out:
                        _logger.warning("%s: %s left out: a probe of its return would break the "
                                        "program.", text, ", ".join(left_out))  # fmt: skip
                for each in functions:
                    found.setdefault((status.st_dev, status.st_ino, each.offset), each)
    return list(found.values())


def _take_apart(text: str) -> _Word:
    """A word's parts. Raises: UsageError."""
    binary, colon, rest = text.partition(":")
    if not colon or not rest or not text.isprintable():
        raise UsageError(f"{text!r} is no BINARY:SYMBOL, as libc:open64")
    if _OFFSET.fullmatch(rest):
        return _Word(text, binary, "", int(rest, 0 if rest.startswith("0x") else 10))
    name, plus, tail = rest.rpartition("+")
    if not plus or not _OFFSET.fullmatch(tail):  # operator+ is a name in C++
        return _Word(text, binary, rest, 0)
    word = _Word(text, binary, name, int(tail, 16 if tail.startswith("0x") else 10))
    if word.is_glob:
        raise UsageError(f"{text!r}: an offset goes with one function's name, not with a pattern")
    return word


def _paths(word: _Word, pids: tuple[int, ...]) -> list[tuple[str, str]]:
    """The files that a word means, and what they are called.

    Raises: UsageError; BpfError: there is none.
    """
    if pids:
        return [_path_of_process(word, pid) for pid in dict.fromkeys(pids)]
    if not word.binary:
        raise UsageError(f"{word.text!r} is a function of a process's program: name it with -p")
    path = os.fsdecode(find_binary(f"probe {escape(word.text)}", word.binary))
    if "/" not in path:
        hint = "Give its path, or -p with a process that uses it."
        raise BpfError(f"find {escape(word.text)}", errno.ENOENT, f"there is no {path}", hint=hint)
    return [(path, word.binary)]


def _path_of_process(word: _Word, pid: int) -> tuple[str, str]:
    """The file of a word that a process uses, seen from here: it may be in a container.

    Raises: BpfError: it has none.
    """
    operation = f"find {escape(word.text)} of process {pid}"
    folder = Path(f"/proc/{pid}")
    if "/" in word.binary:
        return f"{folder}/root{Path(word.binary).absolute()}", word.binary
    try:
        if not word.binary:
            return f"{folder}/exe", _without_mark(str((folder / "exe").readlink())).name
        maps = (folder / "maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        reason, hint = error.strerror or "", ""
        if error.errno in (errno.ENOENT, errno.ESRCH):
            reason = "there is no such process, or it runs no program"
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = "A process of another user needs root, or CAP_SYS_PTRACE."
        raise BpfError(operation, error.errno, reason, hint=hint) from None
    name = re.escape(word.binary)
    wanted = re.compile(name if ".so" in word.binary else rf"{name}(?:[-.\d]*\.so[.\d]*)?")
    used: dict[str, None] = {}
    for place, _access, _offset, _device, _inode, file in _mapped_code(maps):
        plain = _without_mark(file)
        if not wanted.fullmatch(plain.name):
            used[escape(plain.name)] = None
        elif str(plain) == file:
            return f"{folder}/root{file}", word.binary
        else:  # it is deleted, or another one has its name now
            start, _, end = place.partition("-")  # there without leading zeros
            return f"{folder}/map_files/{int(start, 16):x}-{int(end, 16):x}", word.binary
    hint = f"It uses: {', '.join(used)}." if used else ""
    raise BpfError(operation, errno.ENOENT, f"it does not use {escape(word.binary)}", hint=hint)


def _mapped_code(maps: str) -> list[list[str]]:
    """The lines of a process's maps that are of files' code, in words."""
    lines = (line.split(maxsplit=5) for line in maps.split("\n"))
    return [line for line in lines if len(line) == 6 and line[5][0] == "/" and "x" in line[1]]


def _without_mark(file: str) -> Path:
    """A path as /proc has it, without what tells that it is deleted."""
    return Path(file[: -len(_DELETED)] if file.endswith(_DELETED) else file)


def _functions(word: _Word, binary: _Binary, *, all_of: bool) -> list[UserFunction]:
    """What a word names in a file, at least one. Raises: BpfError, UsageError."""
    if not word.name:
        return [_at_address(word, binary)]
    pattern = glob_regex(word.name) if word.is_glob else re.escape(word.name)
    if all_of and not word.is_glob:
        pattern += f"(?:{VARIANT})?"
    # What lies in other files takes longer to read.
    symbols = [] if word.is_glob or all_of else binary.functions(pattern, own=True)
    symbols = symbols or binary.functions(pattern)
    if not symbols:
        raise _not_found(word, binary)
    able = [each for each in symbols if not each.is_ifunc and (all_of or not each.is_old)]
    if not able and not any(each.is_ifunc for each in symbols):
        able = symbols  # there are only versions of old
    if not able:
        raise _not_yet(word, symbols)
    left_out = sum(each.is_ifunc for each in symbols)
    if left_out:
        what = "function is" if left_out == 1 else "functions are"
        _logger.warning("%s: %d %s left out: %s.", word.text, left_out, what, _IFUNC)
    if not word.is_glob and not all_of and len(able) > 1:
        raise _which(word, able, binary)
    once = _each_once(able)
    names = Counter(each.name for each in once)
    return [_user_function(word, binary, each, alone=names[each.name] == 1) for each in once]


_IFUNC = "the program chooses at its start which code they are (IFUNC)"


def _each_once(symbols: list[ElfFunction]) -> list[ElfFunction]:
    """The best of the names of each address."""
    found: dict[int, ElfFunction] = {}
    for each in sorted(symbols, key=lambda one: rank(one.name, is_local=False)):
        found.setdefault(each.address, each)
    return sorted(found.values())


def _user_function(
    word: _Word, binary: _Binary, symbol: ElfFunction, *, alone: bool
) -> UserFunction:
    if word.offset and 0 < symbol.size <= word.offset:
        reason = f"the offset lies past the function's end ({symbol.size} bytes)"
        raise BpfError(f"probe {escape(word.text)}", errno.EINVAL, reason)
    plain = escape(symbol.name)
    label = f"{escape(binary.name)}:{plain}"
    if not alone:
        label += f"@{symbol.address:#x}"
    if word.offset:
        label += f"+{word.offset:#x}"
    start = binary.offset_of(symbol.address) or 0  # there is one, or it was not taken
    if word.offset:
        check_place(word.text, binary.symbols, start, word.offset)
    place = start + word.offset
    code = binary.symbols.code(place, _CODE)
    return UserFunction(binary.path, place, plain, label, word.offset, code)


def _at_address(word: _Word, binary: _Binary) -> UserFunction:
    """The place at an address. Raises: BpfError: there is no code."""
    offset = binary.offset_of(word.offset)
    if offset is None:
        hint = "Addresses are those that 'nm' and 'objdump -d' print of the file."
        reason = "the file has no code at this address"
        raise BpfError(f"probe {escape(word.text)}", errno.EINVAL, reason, hint=hint)
    name, inside = binary.at(offset) or (f"{word.offset:#x}", 0)
    if inside:
        check_place(word.text, binary.symbols, offset - inside, inside)
    elif name.startswith("0x"):
        _logger.warning("%s: no name tells whether an instruction begins there. If none does, "
                        "the program breaks.", word.text)  # fmt: skip
    symbol = escape(name)
    label = f"{escape(binary.name)}:{symbol}" + (f"+{inside:#x}" if inside else "")
    code = binary.symbols.code(offset, _CODE)
    return UserFunction(binary.path, offset, symbol, label, inside, code)


def _which(word: _Word, symbols: list[ElfFunction], binary: _Binary) -> BpfError:
    """The name stands for several."""
    places = [f"{escape(binary.name)}:{each.address:#x}" for each in symbols[:_LISTED]]
    if len(symbols) > _LISTED:
        places.append(f"{len(symbols) - _LISTED} more")
    hint = f"Choose one by its address, or take all with --all: {', '.join(places)}."
    reason = f"{len(symbols)} functions have this name"
    return BpfError(f"probe {escape(word.text)}", errno.EADDRNOTAVAIL, reason, hint=hint)


def _not_yet(word: _Word, symbols: list[ElfFunction]) -> BpfError:
    """What is named is code that runs once, when a program starts."""
    hint = "Trace a function that calls it."
    reason = _IFUNC if len(symbols) > 1 else _IFUNC.replace("they are", "it is")
    return BpfError(f"probe {escape(word.text)}", errno.EINVAL, reason, hint=hint)


def _not_found(word: _Word, binary: _Binary) -> BpfError:
    """Why there is none, and what there is instead."""
    operation = f"find {escape(word.text)}"
    names = sorted({each.name for each in binary.functions("(?s:.*)")})
    if not names:
        hint = "It is stripped: name places by their addresses, as PROGRAM:0x1234."
        reason = f"{escape(binary.name)} names no functions"
        return BpfError(operation, errno.ENOENT, reason, hint=hint)
    if word.is_glob:
        return BpfError(operation, errno.ENOENT, "no function's name matches")
    import difflib

    near = difflib.get_close_matches(word.name, names[:50_000], 4)
    near = near or [each for each in names if word.name in each][:4]
    hint = f"There is: {', '.join(map(escape, near))}." if near else "'nm -D FILE' lists them."
    return BpfError(operation, errno.ENOENT, "no function has this very name", hint=hint)

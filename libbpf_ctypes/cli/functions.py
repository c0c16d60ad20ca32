"""What the words of a command line name: functions of the running kernel."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import Counter
from typing import NamedTuple

from ..errors import BpfError
from ..kernel import Kallsyms, Symbol, function_hint
from .probeable import Probeable, is_artificial
from .usage import UsageError

#: How the wrapper of a system call is called, before the call's own name.
_WRAPPERS = {
    "x86_64": "__x64_sys_",
    "aarch64": "__arm64_sys_",
    "riscv64": "__riscv_sys_",
    "s390x": "__s390x_sys_",
}
#: What the compiler appends to the name of a function that it changed.
VARIANT = r"(?:\.(?:isra|constprop|part|llvm)(?:\.[0-9]+)?)+"
#: How many are listed where a name stands for more.
_LISTED = 12
#: What goes in a module's place: a system call's name is meant, the kernel itself.
SYSCALL, KERNEL = "syscall", "vmlinux"
_HIDDEN = (
    "several functions have one name, and addresses, which tell them apart, are hidden "
    "(sysctl kernel.kptr_restrict, CAP_SYSLOG)"
)

_logger = logging.getLogger(__name__)


class Function(NamedTuple):
    """A function to be probed.

    Attributes:
        symbol: its name as in /proc/kallsyms: ``__x64_sys_openat``.
        module: "" for the kernel itself.
        address: 0 where addresses are hidden.
        offset: bytes from its first instruction.
        syscall: ``openat`` where it is a system call's wrapper and its arguments are to be
            unwrapped; else "".
        label: what the user sees and types: ``openat``, ``ext4:ext4_readdir``, ``vfs_read+0x10``.
        ambiguous: several functions have this name: it is attached to by its address.
        ftraceable: kprobe.multi can take it. False also where it was not asked for: of a single
            function, and where tracefs cannot be read.
    """

    symbol: str
    module: str
    address: int
    offset: int
    syscall: str
    label: str
    ambiguous: bool
    ftraceable: bool

    @property
    def probe(self) -> str:
        """By what it is traced."""
        return "kprobe"

    @property
    def inside(self) -> int:
        """Its offset: all that is probed has this."""
        return self.offset


class Word(NamedTuple):
    """A word of the command line, taken apart."""

    text: str
    module: str
    name: str
    offset: int

    @property
    def place(self) -> str:
        """It without its offset."""
        return self.text.partition("+")[0]

    @property
    def is_glob(self) -> bool:
        """Whether it is a pattern."""
        return bool(set(self.name) & set("*?["))


def find_functions(words: list[str], *, address: str | None, all_of: bool) -> list[Function]:
    """The functions that these words name, each once, in the words' order, a glob's by name.

    Args:
        words: names, globs, ``module:name`` (``vmlinux:`` is the kernel itself),
            ``name+offset``, system calls by their plain names or as ``syscall:name``.
        address: which of several functions of a name is meant, in hexadecimal.
        all_of: all of that name, and the compiler's variants of it.

    Raises: UsageError; BpfError: there is none, or the name stands for several. The hint
        lists what there is.
    """
    taken = [take_apart(word) for word in words]
    chosen = parse_address(address)
    if chosen and (len(taken) > 1 or taken[0].is_glob or all_of):
        raise UsageError("--address chooses one of the functions of one name")
    finder = Finder()
    found: dict[tuple[object, ...], Function] = {}
    for word in taken:
        for each in finder.find(word, chosen, all_of):
            # One function may have several names: a call is one event.
            place = each.address or (each.symbol, each.module)
            found.setdefault((place, each.offset), each)
    functions = list(found.values())
    return functions if len(functions) == 1 else [finder.with_ftrace(each) for each in functions]


def take_apart(text: str) -> Word:
    """A word's module, name and offset. Raises: UsageError."""
    place, plus, tail = text.partition("+")
    module, colon, name = place.rpartition(":")
    if not name or not text.isprintable() or " " in text or ":" in module or (colon and not module):
        raise UsageError(f"{text!r} is not the name of a kernel function")
    if not plus:
        return Word(text, module, name, 0)
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,7}|[0-9]{1,8}", tail):
        raise UsageError(f"{text!r}: behind '+' goes an offset in bytes, as in vfs_read+0x10")
    word = Word(text, module, name, int(tail, 16 if tail.startswith("0x") else 10))
    if word.is_glob:
        raise UsageError(f"{text!r}: an offset goes with one function's name, not with a pattern")
    return word


def parse_address(text: str | None) -> int:
    """The value of --address; 0 without it. Raises: UsageError."""
    if text is None:
        return 0
    if not re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,16}", text) or not int(text, 16):
        raise UsageError(f"--address takes an address as 0xffffffff81234560, not {text!r}")
    return int(text, 16)


def glob_regex(glob: str) -> str:
    """A pattern with ``*``, ``?``, ``[a-z]`` as a regular expression. Raises: UsageError."""
    made = ""
    for part in re.findall(r"\[!?(?:\w-\w|[\w.])+\]|.", glob):
        if part == "[":
            raise UsageError(f"{glob!r}: behind '[' go characters of a name and a ']', as in [a-z]")
        if len(part) > 1:
            made += part.replace("[!", r"[^\s")
        else:
            made += {"*": r"\S*", "?": r"\S"}.get(part) or re.escape(part)
    try:
        re.compile(made)
    except re.error:
        raise UsageError(f"{glob!r}: the range ends before it begins") from None
    return made


class Finder:
    """Functions of the running kernel, by words and patterns, from its symbols of now."""

    def __init__(self) -> None:
        self.kallsyms = Kallsyms()
        self.probeable = Probeable(self.kallsyms)
        self._wrapper = _WRAPPERS.get(os.uname().machine, "sys_")
        self._same: Counter[tuple[str, str]] = Counter()  # how many have a name and module

    def find(self, word: Word, address: int, all_of: bool) -> list[Function]:
        """What a word names, at least one. Raises: UsageError, BpfError."""
        if not len(self.kallsyms):
            return [_unseen(word, address)]
        found = self.candidates(word, variants=all_of)
        if word.is_glob or (all_of and len(found) > 1):
            found = self._able(word, found)
        elif len(found) > 1 or address:
            found = self._choose(word, found, address)
        return [self._at_offset(each, word) for each in found] if word.offset else found

    def candidates(self, word: Word, *, variants: bool) -> list[Function]:
        """The functions that a word may mean, at least one, whether they can be probed or not.

        Args: variants: those that the compiler made of the function, too.
        Raises: UsageError; BpfError: there is none.
        """
        pattern = glob_regex(word.name) if word.is_glob else ""
        if variants and not word.is_glob:
            pattern = re.escape(word.name) + f"(?:{VARIANT})?"
        found: list[Function] = []
        if word.module != SYSCALL:
            found = self._look_up("", word.name, pattern, word.module)
        if not found and word.module in ("", SYSCALL):
            found = self._look_up(self._wrapper, word.name, pattern, KERNEL)
            found = [each._replace(label=each.syscall) for each in found]
        if not found:
            raise self._not_found(word)
        if len(found) == 1 and found[0].symbol.endswith(word.name):  # as it was typed
            return [found[0]._replace(label=word.place)]
        return found

    def _look_up(self, prefix: str, name: str, pattern: str, module: str) -> list[Function]:
        """By the pattern where there is one; by the name alone it takes a tenth of the time."""
        if pattern:
            return self.search(prefix + pattern, module)
        symbols = self.kallsyms.find(prefix + name)
        return self._functions(symbols, module)

    def search(self, pattern: str, module: str) -> list[Function]:
        """The functions whose whole name matches, whether they can be probed or not, by name.

        Args: pattern: a regular expression. module: "": of all; "vmlinux": of the kernel itself.
        """
        return self._functions(
            self.kallsyms.search(pattern, "" if module == KERNEL else module), module
        )

    def _functions(self, symbols: list[Symbol], module: str) -> list[Function]:
        symbols = [s for s in symbols if s.is_function and not is_artificial(s)]
        of_name = Counter(symbol.name for symbol in symbols)
        of_module = Counter((symbol.name, symbol.module) for symbol in symbols)
        self._same |= of_module
        found = []
        for _kind, name, its_module, address in sorted(symbols, key=lambda each: each[1:]):
            if module and its_module != ("" if module == KERNEL else module):
                continue
            # Where no module is named, the kernel looks into all of them.
            same = of_module[name, its_module] if its_module else of_name[name]
            syscall = name[len(self._wrapper) :] if name.startswith(self._wrapper) else ""
            label = f"{its_module}:{name}" if its_module else name
            if same > 1 and address:
                label += f"@{address:#x}"
            found.append(Function(name, its_module, address, 0, syscall, label, same > 1, False))
        return found

    def why_not(self, function: Function) -> str:
        """Why it cannot be probed; "" where nothing is known against it."""
        if function.ambiguous and not function.address:
            return "several functions have its name, and their addresses are hidden"
        symbol = Symbol("t", function.symbol, function.module, function.address)
        return self.probeable.why_not(symbol, self._same[symbol[1:3]])

    def with_ftrace(self, function: Function) -> Function:
        """It, with what tracefs says of it."""
        symbol = Symbol("t", function.symbol, function.module, function.address)
        able = self.probeable.is_ftraceable(symbol, max(1, self._same[symbol[1:3]]))
        return function._replace(ftraceable=able and not function.offset)

    def _able(self, word: Word, matches: list[Function]) -> list[Function]:
        """Those that can be probed. Raises: BpfError: none can."""
        reasons = [self.why_not(each) for each in matches]
        hidden = sum(each.ambiguous and not each.address for each in matches)
        if hidden:
            _logger.warning("%s: %d functions are left out: %s.", word.text, hidden, _HIDDEN)
        found = [each for each, reason in zip(matches, reasons) if not reason]
        if not found:
            reason = f"{len(matches)} match, and none can be probed"
            hint = f"{matches[0].label}: {reasons[0]}."
            raise BpfError(f"probe {word.text}", errno.EINVAL, reason, hint=hint)
        return found

    def _choose(self, word: Word, found: list[Function], address: int) -> list[Function]:
        """The one that is meant of several with the word's name. Raises: BpfError: which?"""
        if address:
            for each in found:
                if each.address == address:
                    return [each._replace(label=word.place)]
            operation = f"find {word.text} at {address:#x}"
            raise BpfError(operation, errno.ENOENT, "it is not there", hint=self._listed(found))
        hint = self._listed(found) if found[0].address else f"{_HIDDEN[0].upper()}{_HIDDEN[1:]}."
        reason = f"{len(found)} functions have this name"
        raise BpfError(f"probe {word.text}", errno.EADDRNOTAVAIL, reason, hint=hint)

    def _listed(self, found: list[Function]) -> str:
        """What to choose from."""
        near = self.kallsyms.before([each.address for each in found[:_LISTED]])
        places = [
            f"{each.address:#x} ({each.module and each.module + ', '}behind {name or 'nothing'})"
            for each, name in zip(found, near)
        ]
        if len(found) > _LISTED:
            places.append(f"{len(found) - _LISTED} more")
        return f"Choose one with --address, or take all with --all: {', '.join(places)}."

    def _at_offset(self, function: Function, word: Word) -> Function:
        """A place within it. Raises: BpfError: it lies behind its end."""
        size = self.kallsyms.size_at(function.address)
        if 0 < size <= word.offset:
            reason = f"the offset lies past the function's end ({size} bytes)"
            raise BpfError(f"probe {word.text}", errno.EINVAL, reason)
        # The registers may hold anything by now: no arguments of a system call.
        label = f"{function.label}+{word.offset:#x}"
        return function._replace(offset=word.offset, syscall="", label=label)

    def _not_found(self, word: Word) -> BpfError:
        """Why there is none, and what there is instead."""
        import difflib

        operation = f"find {word.text}"
        if word.is_glob:
            hint = function_hint(f"{word.module}:vfs_read") if word.module else ""
            hint = hint if "not loaded" in hint else "/proc/kallsyms lists what there is."
            return BpfError(operation, errno.ENOENT, "no function's name matches", hint=hint)
        name = re.escape(word.name)
        variants = [] if word.module == SYSCALL else self.search(name + VARIANT, word.module)
        if variants:
            names = ", ".join(each.label for each in variants[:_LISTED])
            hint = f"The compiler made of it: {names}. Name one of them, or take all with --all."
            return BpfError(operation, errno.ENOENT, "no function has this very name", hint=hint)
        calls = [each.syscall for each in self.search(self._wrapper + r"\w+", KERNEL)]
        plain = word.name[4:] if word.name.startswith("sys_") else word.name
        near = difflib.get_close_matches(plain, calls, 3)
        hint = ""
        if word.module != SYSCALL:
            hint = function_hint(word.name if word.module == KERNEL else word.place)
        if near and word.module in ("", SYSCALL):
            hint = f"{hint} Of system calls there are: {', '.join(near)}.".lstrip()
        what = "system call" if word.module == SYSCALL else "function"
        return BpfError(operation, errno.ENOENT, f"there is no such {what}", hint=hint)


def _unseen(word: Word, address: int) -> Function:
    """It is left to the kernel whether there is such a function. Raises: BpfError."""
    if word.is_glob or address or word.module == SYSCALL:
        hint = "Mount it first: 'mount -t proc proc /proc'."
        raise BpfError(f"find {word.text}", None, "/proc/kallsyms cannot be read", hint=hint)
    module = "" if word.module == KERNEL else word.module
    label = f"{word.place}+{word.offset:#x}" if word.offset else word.place
    return Function(word.name, module, 0, word.offset, "", label, False, False)

"""Patterns as names of files have them (``*``, ``?``, ``[a-z]``), for the BPF program to run.

A state of the automaton is a bit of a 64-bit number, and all of them move at once:
``states = (states & table[byte]) << 1 | states & loops``, for each byte up to the NUL.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .usage import UsageError

#: States of one automaton: the bits of a number.
_MAX_STATES = 64
_BYTES = frozenset(range(1, 256))
_TOKEN = re.compile(rb"\\(.)|(\*+)|(\?)|\[([!^]?)(\]?[^\]]*)\]|(.)", re.S)


class Pattern(NamedTuple):
    """An automaton.

    Attributes:
        table: of each byte: bit i is set where state i goes on to state i + 1.
        start: the states at the beginning.
        loops: states that stay, whatever the byte.
        accept: the text matches if one of these is reached at its end.
    """

    table: tuple[int, ...]
    start: int
    loops: int
    accept: int

    def matches(self, text: bytes) -> bool:
        """Whether a text matches, as the BPF program decides it."""
        states = self.start
        for byte in text.partition(b"\0")[0]:
            states = (states & self.table[byte]) << 1 | states & self.loops
        return bool(states & self.accept)


def is_glob(text: str) -> bool:
    """Whether a text has more than plain characters."""
    return any(character in text for character in "*?[\\")


def least_length(glob: str) -> int:
    """Bytes that a text has at least that matches."""
    found = _TOKEN.finditer(glob.encode(errors="surrogateescape"))
    return sum(not token[2] for token in found)


def compile_patterns(globs: list[str]) -> Pattern:
    r"""One automaton for all of them: a text that matches any of them matches.

    Args: globs: ``*`` any bytes, ``?`` one byte, ``[a-z]`` one of these, ``[!a-z]`` one of the
        others, ``\`` before one of them: that character itself.

    Raises: UsageError: more states than one automaton has.
    """
    table = [0] * 256
    start = loops = accept = state = 0
    for glob in globs:
        start |= 1 << state
        for found in _TOKEN.finditer(glob.encode(errors="surrogateescape")):
            if found[2]:
                loops |= 1 << state
                continue
            for byte in _bytes_of(found, glob):
                table[byte] |= 1 << state
            state += 1
        accept |= 1 << state
        state += 1
    if state > _MAX_STATES:
        what = repr(globs[0]) if len(globs) == 1 else f"the {len(globs)} patterns"
        most = _MAX_STATES - len(globs)
        raise UsageError(
            f"{what} {'is' if len(globs) == 1 else 'are'} too long; there is room for {most} "
            "characters, '*' not counted"
        )
    return Pattern(tuple(table), start, loops, accept)


def _bytes_of(found: re.Match[bytes], glob: str) -> frozenset[int]:
    """The bytes that one part of a glob stands for, '*' aside."""
    escaped, _stars, question, negation, members, plain = found.groups()
    if question:
        return _BYTES
    if members is None:
        return frozenset(escaped or plain)
    if not members or not members.isascii():
        what = "what is no ASCII" if members else "nothing"
        raise UsageError(f"pattern {glob!r} has {what} between '[' and ']'")
    chosen: set[int] = set()
    for first, last in re.findall(rb"(.)(?:-(.))?", members, re.S):
        if last and last < first:
            raise UsageError(f"pattern {glob!r}: the range ends before it begins")
        chosen |= set(range(first[0], (last or first)[0] + 1))
    return frozenset(_BYTES - chosen if negation else chosen)

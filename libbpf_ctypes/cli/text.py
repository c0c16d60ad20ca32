"""How events become text: escaping, times, arguments."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

#: How many texts a Memo keeps.
_MAX_TEXTS = 4096


class Memo(dict[Any, str]):
    """Texts that were made before, by what they were made of: a look-up is faster than a call.

    Args: make: the function that makes one.
    """

    def __init__(self, make: Callable[[Any], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> str:
        if len(self) >= _MAX_TEXTS:
            self.clear()
        text = self[key] = self._make(key)
        return text


def escape(text: str) -> str:
    r"""TEXT without anything a terminal would act on.

    Control characters of ASCII become \xNN, other unprintable ones \uNNNN or
    \UNNNNNNNN, bytes that were not UTF-8 (lone surrogates) \xNN, a backslash
    two of them: what was written can be told from what was escaped.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def format_boot(timestamp_ns: int) -> str:
    """Seconds since boot, to the microsecond."""
    seconds, rest = divmod(timestamp_ns // 1000, 1_000_000)
    return f"{seconds}.{rest:06d}"


#: Of three readings of clocks: with more, another task ran in between.
_UNDISTURBED_NS = 100_000


class WallClock:
    """The kernel's monotonic clock as date and time: ISO 8601 with microseconds and zone.

    The zone is the local one, until set() fixes it.
    """

    def __init__(self) -> None:
        self._offset = self._measure()
        self._zone: int | None = None

    @staticmethod
    def _measure() -> int:
        """Nanoseconds from CLOCK_MONOTONIC to CLOCK_REALTIME, between two readings of one."""
        looks = []
        for _ in range(10):
            before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            looks.append((after - before, wall - (before + after) // 2))
            if after - before < _UNDISTURBED_NS:
                break
        return min(looks)[1]

    def adjust(self) -> None:
        """Follows a clock that was set, or a machine that slept, by more than a millisecond."""
        offset = self._measure()
        if abs(offset - self._offset) > 1_000_000:
            self._offset = offset

    def reading(self) -> tuple[int, int]:
        """The offset after adjust(), in nanoseconds, and the zone of now, in seconds from UTC."""
        self.adjust()
        return self._offset, time.localtime().tm_gmtoff

    @property
    def offset_ns(self) -> int:
        """Nanoseconds from CLOCK_MONOTONIC to CLOCK_REALTIME, as format() takes them."""
        return self._offset

    def set(self, offset_ns: int, zone: int) -> None:
        """Goes by another clock's reading()."""
        self._offset, self._zone = offset_ns, zone

    def format(self, timestamp_ns: int) -> str:
        """The date and time of an event, in the zone."""
        seconds, rest = divmod((timestamp_ns + self._offset) // 1000, 1_000_000)
        date, zone = _local_second(seconds, self._zone)
        return f"{date}.{rest:06d}{zone}"


@lru_cache(maxsize=8)
def _local_second(seconds: int, zone: int | None) -> tuple[str, str]:
    from datetime import datetime, timedelta, timezone  # not needed where dates are not

    if zone is None:
        moment = datetime.fromtimestamp(seconds).astimezone()
    else:
        moment = datetime.fromtimestamp(seconds, timezone(timedelta(seconds=zone)))
    text = moment.isoformat(timespec="seconds")
    return text[:19], text[19:]

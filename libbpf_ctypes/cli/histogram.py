"""Histograms of times: what the kernel's slots stand for, and how they are printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .usage import UsageError

#: bpf/call_event.h: how many slots a tally has.
SLOTS = 64

_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
_LONGEST = 10**18  # 30 years

#: Columns of a bucket's bounds and of its count; a wider count moves its line.
_BOUND_WIDTH, _COUNT_WIDTH = 8, 9
_LEAST_BAR = 10


class Bucket(NamedTuple):
    """So many calls took LOW nanoseconds at least, and less than HIGH; None: or any more."""

    low: int
    high: int | None
    calls: int


class Scale(NamedTuple):
    """What a slot stands for: slot k for 2^k nanoseconds and more, or for steps of one width.

    Attributes: nanoseconds; step 0: powers of two.
    """

    minimum: int = 0
    maximum: int = 0
    step: int = 0

    def bounds(self, slot: int) -> tuple[int, int | None]:
        """The least time of a slot, and what all of its times are below."""
        if not self.step:
            return (1 << slot if slot else 0), (2 << slot if slot < SLOTS - 1 else None)
        if not slot:
            return 0, self.minimum
        low = self.minimum + (slot - 1) * self.step
        return low, low + self.step if low < self.maximum else None

    def used(self, slots: Sequence[int]) -> list[int]:
        """The slots that stand for something."""
        if not self.step:
            return list(slots)
        # What is above the maximum is one slot, wherever the kernel kept it.
        above = 1 + (self.maximum - self.minimum) // self.step
        return [*slots[:above], sum(slots[above:])]

    def buckets(self, slots: Sequence[int]) -> list[Bucket]:
        """From the first slot that is not empty to the last; none: all are."""
        used = self.used(slots)
        there = [slot for slot, count in enumerate(used) if count]
        if not there:
            return []
        return [Bucket(*self.bounds(k), used[k]) for k in range(there[0], there[-1] + 1)]

    def bound(self, ns: int) -> str:
        """A bound in words: of powers of two its first digits, of steps all of them."""
        return exact(ns) if self.step else duration(ns)


def read_scale(text: str | None) -> Scale:
    """The scale of a --linear; None: powers of two. Raises: UsageError."""
    if text is None:
        return Scale()
    found = [_nanoseconds(part) for part in text.split(":")]
    if len(found) != 3 or None in found:
        raise UsageError(f"--linear takes MIN:MAX:STEP, as 0:10ms:500us, not {text!r}")
    minimum, maximum, step = (part for part in found if part is not None)
    if not minimum < maximum or not step or (maximum - minimum) % step:
        raise UsageError(f"--linear {text}: MAX is to be above MIN by some whole STEPs")
    steps = (maximum - minimum) // step
    if steps > SLOTS - 2:
        raise UsageError(f"--linear {text}: that is {steps} steps, and there are {SLOTS - 2}")
    return Scale(minimum, maximum, step)


def _nanoseconds(text: str) -> int | None:
    """ "500us" in nanoseconds, a whole number of them; None: it is no time."""
    found = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?(ns|us|ms|s)", text.strip())
    if found is None:
        return 0 if text.strip() == "0" else None
    fraction, unit = found[2] or "", _UNITS[found[3]]
    ns, rest = divmod(int(found[1] + fraction) * unit, 10 ** len(fraction))
    return ns if not rest and ns <= _LONGEST else None


def duration(ns: float) -> str:
    """A time in three digits and the unit that fits: 12.3us."""
    if ns < 999.5:
        return f"{ns:.3g}ns"
    unit = next((unit for unit in ("us", "ms") if ns / _UNITS[unit] < 999.5), "s")
    value = ns / _UNITS[unit]
    return f"{value:.3g}{unit}" if value < 999.5 else f"{value:.0f}{unit}"


def exact(ns: int) -> str:
    """A time to the last nanosecond, in the largest unit that it has one of: 10.25ms."""
    unit = next((unit for unit in ("s", "ms", "us") if ns >= _UNITS[unit]), "ns")
    whole, rest = divmod(ns, _UNITS[unit])
    digits = len(str(_UNITS[unit])) - 1
    fraction = f".{rest:0{digits}d}".rstrip("0") if rest else ""
    return f"{whole}{fraction}{unit}" if ns else "0"


def quantile(buckets: Sequence[Bucket], share: float) -> Bucket:
    """The bucket of the call that this share of all did not take longer than."""
    wanted, seen = share * sum(bucket.calls for bucket in buckets), 0
    for bucket in buckets:
        seen += bucket.calls
        if seen >= wanted:
            break
    return bucket


def below(scale: Scale, bucket: Bucket) -> str:
    """What the times of a bucket are below, in words; of one without end what they are above."""
    if bucket.high is None:
        return f">= {scale.bound(bucket.low)}"
    return f"< {scale.bound(bucket.high)}"


def draw(scale: Scale, buckets: Sequence[Bucket], width: int) -> list[str]:
    """Lines with a bar for each bucket; one that is not empty has a bar.

    Args: width: columns of a line.
    """
    most = max((bucket.calls for bucket in buckets), default=0)
    room = max(_LEAST_BAR, width - 2 * _BOUND_WIDTH - _COUNT_WIDTH - len(" - ") - len("  ||"))
    lines = []
    for low, high, count in buckets:
        to = "" if high is None else scale.bound(high)
        bar = "@" * -(-room * count // most)
        bounds = f"{scale.bound(low):>{_BOUND_WIDTH}} - {to:<{_BOUND_WIDTH}}"
        lines.append(f"{bounds}{count:>{_COUNT_WIDTH}}  |{bar:<{room}}|")
    return lines

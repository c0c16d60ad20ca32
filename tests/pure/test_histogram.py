"""Histograms: what the kernel's slots stand for, in numbers and in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.histogram import (
    SLOTS,
    Bucket,
    Scale,
    below,
    draw,
    duration,
    exact,
    quantile,
    read_scale,
)
from libbpf_ctypes.cli.usage import UsageError

POWERS = Scale()
STEPS = read_scale("1ms:10ms:500us")


def slots(**counts: int) -> list[int]:
    """Slots by their numbers: s3=1 is one call in slot 3."""
    found = [0] * SLOTS
    for name, count in counts.items():
        found[int(name[1:])] = count
    return found


def slot_of(scale: Scale, ns: int) -> int:
    """As tally.bpf.h has it."""
    if not scale.step:
        return max(0, ns.bit_length() - 1)
    if ns < scale.minimum:
        return 0
    return min(1 + (ns - scale.minimum) // scale.step, SLOTS - 1)


@pytest.mark.parametrize(
    "scale", [POWERS, STEPS, read_scale("0:62s:1s"), read_scale("5us:6us:1us")]
)
@given(times=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_each_time_is_in_the_bucket_of_its_slot(scale: Scale, times: list[int]) -> None:
    counted = [0] * SLOTS
    for ns in times:
        counted[slot_of(scale, ns)] += 1
    buckets = scale.buckets(counted)
    for low, high, calls in buckets:
        assert calls == sum(low <= ns and (high is None or ns < high) for ns in times)
    assert sum(bucket.calls for bucket in buckets) == len(times)
    for one, next_one in zip(buckets, buckets[1:]):
        assert one.high == next_one.low
    assert buckets[0].calls
    assert buckets[-1].calls


def test_powers_of_two_begin_where_bpftraces_do() -> None:
    assert POWERS.bounds(0) == (0, 2)
    assert POWERS.bounds(10) == (1024, 2048)
    assert POWERS.bounds(63) == (1 << 63, None)


def test_what_is_above_the_last_step_is_one_bucket_wherever_it_was_kept() -> None:
    assert STEPS.buckets(slots(s0=1, s18=2, s19=3, s40=4)) == [
        Bucket(0, 1_000_000, 1),
        *(Bucket(ns, ns + 500_000, 0) for ns in range(1_000_000, 9_500_000, 500_000)),
        Bucket(9_500_000, 10_000_000, 2),
        Bucket(10_000_000, None, 7),
    ]


def test_without_calls_there_are_no_buckets() -> None:
    assert POWERS.buckets(slots()) == []
    assert draw(POWERS, [], 80) == []


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("0:10ms:500us", Scale(0, 10_000_000, 500_000)),
        ("1.5us:2us:250ns", Scale(1500, 2000, 250)),
        ("0.5s: 1s:100ms", Scale(500_000_000, 1_000_000_000, 100_000_000)),
        ("0:62s:1s", Scale(0, 62 * 10**9, 10**9)),
    ],
)
def test_a_linear_scale_is_read(text: str, scale: Scale) -> None:
    assert read_scale(text) == scale


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "takes MIN:MAX:STEP"),
        ("0:10ms", "takes MIN:MAX:STEP"),
        ("0:10:1", "takes MIN:MAX:STEP"),
        ("0:10ms:-1ms", "takes MIN:MAX:STEP"),
        ("0:1.5ns:1ns", "takes MIN:MAX:STEP"),
        ("0:9999999999s:1s", "takes MIN:MAX:STEP"),
        ("0:10ms:0", "above MIN by some whole STEPs"),
        ("10ms:1ms:1ms", "above MIN by some whole STEPs"),
        ("0:10ms:3ms", "above MIN by some whole STEPs"),
        ("0:63s:1s", "63 steps, and there are 62"),
    ],
)
def test_a_scale_that_is_none_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        read_scale(text)


@pytest.mark.parametrize(
    ("ns", "short", "whole"),
    [
        (0, "0ns", "0"),
        (999, "999ns", "999ns"),
        (1024, "1.02us", "1.024us"),
        (999_499, "999us", "999.499us"),
        (999_500, "1ms", "999.5us"),
        (10_250_000, "10.2ms", "10.25ms"),
        (1 << 30, "1.07s", "1.073741824s"),
        (1 << 45, "35184s", "35184.372088832s"),
    ],
)
def test_times_are_written_in_the_unit_that_fits(ns: int, short: str, whole: str) -> None:
    assert duration(ns) == short
    assert exact(ns) == whole


@given(st.integers(1, 2**64 - 1))
def test_a_time_that_is_written_out_is_exact(ns: int) -> None:
    units = {"ns": 0, "us": 3, "ms": 6, "s": 9}
    text = exact(ns)
    number = text.rstrip("nums")
    whole, _, fraction = number.partition(".")
    digits = units[text[len(number) :]]
    assert int(whole + fraction.ljust(digits, "0")) == ns


def test_a_quantile_is_a_bucket_and_tells_its_bound() -> None:
    buckets = POWERS.buckets(slots(s10=50, s11=49, s63=1))
    assert below(POWERS, quantile(buckets, 0.5)) == "< 2.05us"
    assert below(POWERS, quantile(buckets, 0.99)) == "< 4.1us"
    assert below(POWERS, quantile(buckets, 1)) == ">= 9223372037s"


def test_bars_are_as_long_as_their_share_and_none_is_invisible() -> None:
    lines = draw(POWERS, POWERS.buckets(slots(s10=1, s12=1000, s13=500)), 60)
    assert [line.count("@") for line in lines] == [1, 0, 28, 14]
    assert {len(line) for line in lines} == {60}
    assert lines[0] == "  1.02us - 2.05us          1  |@                           |"


def test_steps_are_drawn_with_their_bounds_in_full() -> None:
    lines = draw(STEPS, STEPS.buckets(slots(s18=1, s19=1)), 40)
    assert lines == [
        "   9.5ms - 10ms            1  |@@@@@@@@@@|",
        "    10ms -                 1  |@@@@@@@@@@|",
    ]

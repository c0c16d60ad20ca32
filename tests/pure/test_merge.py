"""Events of several CPUs come out in the order of their times, none missing, none twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes.cli.merge import PATIENCE, Merger

PATIENCE_NS = int(PATIENCE * 1e9)

Event = tuple[int, int]  # its time, its number


@st.composite
def traces(draw: st.DrawFn) -> list[tuple[list[Event], int]]:
    """Batches as a reader of several CPUs gets them: all events sent before a time."""
    steps = draw(st.lists(st.integers(0, 30 * 10**6), min_size=1, max_size=12))
    rounds, now, number = [], 10**9, 0
    for step in steps:
        began, now = now, now + step
        batch: list[Event] = []
        for _cpu in range(draw(st.integers(1, 3))):
            times = draw(st.lists(st.integers(began, now), max_size=6))
            for time in sorted(times):
                batch.append((time, number))
                number += 1
        rounds.append((batch, now))
    return rounds


@given(traces())
def test_what_goes_in_comes_out_once_in_order(rounds: list[tuple[list[Event], int]]) -> None:
    merger: Merger[Event] = Merger(lambda event: event[0])
    out: list[Event] = []
    for batch, read_until in rounds:
        ready = merger.add(batch, read_until)
        assert all(time < read_until - PATIENCE_NS for time, _ in ready)
        out += ready
    out += merger.rest()
    assert len(merger) == 0
    assert sorted(out) == sorted(event for batch, _ in rounds for event in batch)
    assert [time for time, _ in out] == sorted(time for time, _ in out)


@given(traces())
def test_nothing_is_held_long(rounds: list[tuple[list[Event], int]]) -> None:
    """Once twice the patience is over, an event is out with the next batch."""
    for batch, read_until in rounds:
        merger: Merger[Event] = Merger(lambda event: event[0])
        merger.add(batch, read_until)
        merger.add([], read_until + 2 * PATIENCE_NS + 1)
        assert len(merger) == 0


def test_an_event_that_comes_late_is_not_lost() -> None:
    merger: Merger[Event] = Merger(lambda event: event[0])
    second = 10**9
    assert merger.add([(second, 1)], 2 * second) == [(second, 1)]
    assert merger.add([(second - 5, 2)], 3 * second) == [(second - 5, 2)]


def test_a_flood_whose_end_is_not_seen_is_not_held() -> None:
    """Memory is bounded, whatever is known of the other CPUs."""
    merger: Merger[Event] = Merger(lambda event: event[0])
    out: list[Event] = []
    for start in range(0, 400_000, 5_000):
        out += merger.add([(time, 0) for time in range(start, start + 5_000)], 0)
        assert len(merger) <= 1 << 14
    out += merger.rest()
    assert [time for time, _ in out] == list(range(400_000))

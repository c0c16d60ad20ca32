"""What a trace says of itself at its end, and of losses while it runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libbpf_ctypes.cli.account import (
    Account,
    Losses,
    exit_status,
    refused_cpus,
    tell,
    total,
)
from libbpf_ctypes.cli.console import Console
from libbpf_ctypes.cli.recorded import account_of, end_of
from libbpf_ctypes.events import Counters

#: 10 calls seen: 3 filtered, 1 unreadable, 4 delivered, 2 lost.
GOOD = Account(
    Counters(3, 4, 2, 1), 4, 1, 2 * 10**9, False, True, refused_cpus=((0, 1), (5, 1)), missed=0
)
CLEAN = Account(Counters(3, 4, 0, 0), 4, 0, 2 * 10**9, False, True, missed=0)

Told = Callable[[Account], list[str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """What is said of an account."""

    def of(account: Account) -> list[str]:
        assert tell(account, "vfs_read", Console(quiet=False, verbose=False)) == account.adds_up
        return capsys.readouterr().err.splitlines()

    return of


def test_all_calls_are_accounted_for(told: Told) -> None:
    assert told(CLEAN) == [
        "[INFO] 7 calls seen: 3 filtered, 4 delivered, 0 lost; 0 missed",
        "[INFO] 4 events, 0 lost, 2.0 seconds, 2.0 events/s",
    ]
    lost, unreadable, *rest = told(GOOD)
    assert lost.startswith(
        "[ERROR] 2 events were lost: 2 found the buffer full (CPU 0: 1, CPU 5: 1), 0 were not read"
    )
    assert unreadable.startswith("[ERROR] 1 calls were left out since what --filter asks for")
    assert rest == [
        "[INFO] 10 calls seen: 3 filtered, 1 unreadable, 4 delivered, 2 lost; 0 missed",
        "[INFO] 4 events, 2 lost, 2.0 seconds, 2.0 events/s",
    ]


def test_the_numbers_of_the_account_add_up_to_what_was_seen() -> None:
    for account in (GOOD, CLEAN, GOOD._replace(delivered=3, drained=False)):
        counters = account.counters
        parts = counters.filtered + counters.unreadable + account.delivered + account.lost
        assert parts == counters.seen


def test_what_the_kernel_missed(told: Told) -> None:
    missed = told(CLEAN._replace(missed=7))
    assert missed[0].startswith("[ERROR] 7 calls were missed by the kernel: ")
    assert missed[1].endswith("; 7 missed")
    (account, _summary) = told(CLEAN._replace(missed=None))
    assert account.endswith("missed: not known before Linux 6.7")


@pytest.mark.parametrize(
    "change",
    [
        {"delivered": 5},
        {"delivered": 3},  # though all was read
        {"reported": 3},  # more than the kernel counted
        {"refused_cpus": ((0, 1),)},
        {"refused_cpus": ((0, 3),)},
    ],
)
def test_it_says_when_it_does_not_add_up(told: Told, change: dict[str, object]) -> None:
    wrong = GOOD._replace(**change)  # type: ignore[arg-type]
    assert not wrong.adds_up
    first, *_rest = told(wrong)
    assert first.startswith("[ERROR] The accounts do not add up: Counters(filtered=3, sent=4, ")
    assert exit_status(wrong, strict=False) == exit_status(wrong, strict=True) == 1


def test_what_was_not_read_in_time_is_lost_unless_the_reader_left(told: Told) -> None:
    late = GOOD._replace(delivered=1, drained=False)
    assert late.adds_up
    lost, *_more = told(late)
    assert "5 events were lost: 2 found the buffer full" in lost
    assert ", 3 were not read in time. " in lost
    assert ", 3 not read, " in told(late)[-2]
    left = late._replace(reader_left=True)
    assert left.lost == 2


@pytest.mark.parametrize(
    ("account", "status"),
    [
        (CLEAN, 0),
        (GOOD, 3),
        (CLEAN._replace(missed=1), 3),
        (CLEAN._replace(missed=None), 0),
        (CLEAN._replace(counters=Counters(3, 4, 0, 1)), 3),
        (CLEAN._replace(delivered=3, drained=False), 3),
        (CLEAN._replace(delivered=3, drained=False, reader_left=True), 0),
    ],
)
def test_strict_makes_any_loss_a_status_of_its_own(account: Account, status: int) -> None:
    assert exit_status(account, strict=True) == status
    assert exit_status(account, strict=False) == 0


def test_why_nothing_came(told: Told) -> None:
    nothing = Account(Counters(0, 0, 0), 0, 0, 10**9, False, True)
    assert told(nothing)[0].startswith("[INFO] No event: vfs_read was not called")
    filtered = nothing._replace(counters=Counters(9, 0, 0))
    assert told(filtered)[0].startswith("[INFO] No event: vfs_read was called 9 times, and each")


@pytest.mark.parametrize("function", ["2 names", "vfs_read vfs_write"])
def test_why_nothing_came_of_several(function: str, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = Account(Counters(0, 0, 0), 0, 0, 10**9, reader_left=False, drained=True)
    tell(nothing, function, Console(quiet=False, verbose=False))
    assert f"No event: {function} were not called." in capsys.readouterr().err


def test_many_cpus_are_not_all_named(told: Told) -> None:
    by_cpu = tuple((cpu, 1 + (cpu == 70)) for cpu in range(100))
    (lost, *_rest) = told(GOOD._replace(counters=Counters(3, 4, 101, 1), refused_cpus=by_cpu))
    assert "(CPU 0: 1, " in lost
    assert "CPU 70: 2, and 92 more)" in lost


def test_counters_of_the_cpus() -> None:
    rows = [Counters(1, 2, 3, 4), Counters(5, 6, 0, 8), Counters(9, 10, 11, 12)]
    assert total(rows) == Counters(15, 18, 14, 24)
    assert total(rows).seen == 71
    assert refused_cpus(rows) == ((0, 3), (2, 11))


def test_a_recording_keeps_the_account() -> None:
    left = GOOD._replace(missed=None, reader_left=True, drained=False)
    for account in (GOOD, CLEAN, left, GOOD._replace(beyond=3)):
        recorded = account.delivered - account.beyond
        assert account_of(end_of(account), recorded, account.reported) == account


def test_losses_are_told_at_most_once_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    losses = Losses(Console(quiet=False, verbose=False))
    losses.tell(100.0, list)
    for number in range(50):
        losses.add(1, 2)
        losses.tell(100.0 + number / 10, list)
    losses.add(0, 1)
    losses.add(3, 1)
    losses.tell(105.5, list)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == ("[WARNING] 2 events lost on CPU 1: they come faster than they are read")
    assert len(told) == 6
    assert told[-1].startswith("[WARNING] 20 events lost on 3 CPUs: ")
    assert sum(int(line.split()[1]) for line in told) == 102 == losses.known


def test_losses_that_no_buffer_reported_yet_are_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    losses, rows = (
        Losses(Console(quiet=False, verbose=False)),
        [Counters(0, 9, 7), Counters(0, 9, 0)],
    )
    losses.tell(100.0, lambda: rows)
    losses.add(0, 5)  # two more are reported later
    losses.tell(101.5, lambda: rows)
    losses.add(0, 2)
    losses.add(1, 1)
    losses.tell(103.0, lambda: rows)
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == [
        "[WARNING] 7 events lost on CPU 0",
        "[WARNING] 1 events lost on CPU 1",
    ]

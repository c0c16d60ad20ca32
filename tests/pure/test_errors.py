"""The exceptions: what, why and what next, through pickling and copying too."""

from __future__ import annotations

import copy
import errno
import os
import pickle

import pytest

from libbpf_ctypes import (
    BpfError,
    ClosedError,
    DecodeError,
    LayoutError,
    LibraryError,
    NotFoundError,
)

CLASSES = [BpfError, ClosedError, DecodeError, LayoutError, LibraryError, NotFoundError]


@pytest.mark.parametrize("kind", CLASSES)
def test_the_text_says_what_why_and_what_next(kind: type[BpfError]) -> None:
    error = kind("open x.o", errno.ENOENT, hint="Look elsewhere.", log="libbpf: no\n")
    assert str(error) == f"open x.o: {os.strerror(errno.ENOENT)} (ENOENT). Look elsewhere."
    assert (error.operation, error.errno) == ("open x.o", errno.ENOENT)
    assert error.strerror == os.strerror(errno.ENOENT)
    assert error.log == "libbpf: no\n"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BpfError("load x.o"), "load x.o: failed"),
        (BpfError("load x.o", None, "too big"), "load x.o: too big"),
        (BpfError("load x.o", errno.EPERM, "too big"), "load x.o: too big (EPERM)"),
        (BpfError("load x.o", 4003, "wrong endianness"), "load x.o: wrong endianness"),
        (BpfError("load x.o", None, "no", hint="Go."), "load x.o: no. Go."),
    ],
)
def test_texts(error: BpfError, text: str) -> None:
    assert str(error) == text


def test_the_classes_are_also_what_python_programs_expect() -> None:
    for kind in CLASSES:
        assert issubclass(kind, BpfError)
        assert issubclass(kind, OSError)
    assert issubclass(NotFoundError, KeyError)
    assert issubclass(ClosedError, ValueError)
    assert issubclass(DecodeError, ValueError)
    assert not issubclass(LibraryError, (KeyError, ValueError))


def _same(left: BpfError, right: BpfError) -> bool:
    names = ("operation", "errno", "strerror", "hint", "log", "args")
    return type(left) is type(right) and all(
        getattr(left, name) == getattr(right, name) for name in names
    )


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("number", [None, errno.ENOENT, errno.EPERM, 4003])
def test_pickled_and_copied_they_keep_everything(kind: type[BpfError], number: int | None) -> None:
    error = kind("attach kprobe to x", number, "the reason", hint="the hint", log="one\ntwo\n")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert _same(again, error)
        assert str(again) == str(error)
    assert _same(copy.copy(error), error)
    assert _same(copy.deepcopy(error), error)


def test_what_was_set_later_is_kept_too() -> None:
    error = BpfError("bpf_object__load", errno.EACCES)
    error.operation, error.hint, error.log = "load x.o", "See the log.", "verifier: no\n"
    again = pickle.loads(pickle.dumps(error))
    assert _same(again, error)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EEXIST, errno.EINTR])
def test_no_error_number_changes_the_class(number: int) -> None:
    # OSError itself becomes FileNotFoundError, PermissionError and so on.
    assert type(BpfError("open x.o", number)) is BpfError

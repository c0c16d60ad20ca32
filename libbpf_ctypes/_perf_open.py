"""Opening the buffers of a perf event array: how large, and how often they wake the reader."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from typing import Any, Callable, Optional

from . import kernel
from ._ffi import lib, libbpf_has
from ._types import callback_class, struct_class
from .errors import BpfError
from .log import calling

logger = logging.getLogger(__name__)

_Function = Optional[Callable[..., Any]]

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

#: What each CPU's buffer has by default: room for some 75,000 events of 40 bytes, 50 ms
#: of one CPU that sends flat out; less where many CPUs would take more together.
_MOST_BYTES, _MOST_BYTES_TOGETHER, _LEAST_BYTES = 4 << 20, 32 << 20, 256 << 10

#: 4 GiB of each CPU; what the kernel multiplies must not overflow.
_MAX_PAGES = 1 << 20

#: Events after which the reader is woken, where a quarter of the buffer holds more.
_FULL_BATCH = 4096

#: Bytes of a sample whose size is not known before it comes. Where they are larger the
#: kernel wakes at half of the buffer, whatever it was told.
_TYPICAL_SAMPLE = 64

_PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_BPF_OUTPUT, _PERF_SAMPLE_RAW = 1, 10, 1 << 10


class Callbacks:
    """What libbpf calls for each event; NULL where the rings are read in memory."""

    def __init__(self, sample: _Function = None, lost: _Function = None, event: _Function = None):
        self.sample = _callback("perf_buffer_sample_fn", sample)
        self.lost = _callback("perf_buffer_lost_fn", lost)
        self.event = _callback("perf_buffer_event_fn", event)


def _callback(name: str, function: _Function) -> Any:
    made = callback_class(name)
    return made() if function is None else made(function)


def default_pages() -> int:
    """Pages of each CPU's buffer, where nobody asks for a number."""
    each = min(_MOST_BYTES, _MOST_BYTES_TOGETHER // (os.cpu_count() or 1))
    pages = max(each, _LEAST_BYTES) // PAGE_SIZE
    return 1 << max(pages, 1).bit_length() - 1


def pages_for(size: int) -> int:
    """Pages of a buffer that holds SIZE bytes: a power of two."""
    return 1 << max(0, -(-size // PAGE_SIZE) - 1).bit_length()


def check_pages(operation: str, pages: int) -> None:
    """Raises BpfError unless a buffer can have so many pages."""
    if not 1 <= pages <= _MAX_PAGES or pages & (pages - 1):
        reason = f"{pages} pages are not a power of two up to {_MAX_PAGES}"
        raise BpfError(operation, errno.EINVAL, reason, hint="Take 8, 16, 32, 64, …")


def wakeup_events(pages: int, event_size: int) -> int:
    """How many events wake the reader: a quarter of the buffer, or a full batch.

    Args: pages: of a buffer. event_size: bytes of an event; -1: unknown.
    """
    sample = _TYPICAL_SAMPLE if event_size < 0 else (event_size + 12 + 7) & ~7
    return max(1, min(_FULL_BATCH, pages * PAGE_SIZE // 4 // sample))


def open_buffers(
    operation: str,
    map_fd: int,
    pages: int | None,
    wake_after: Callable[[int], int],
    callbacks: Callbacks,
) -> tuple[Any, int]:
    """Opens a buffer for each online CPU.

    Args:
        operation: in words, for errors.
        pages: of each; None: the default, or what the user may have of it.
        wake_after: how many events wake the reader of so many pages.
        callbacks: called by perf_buffer__consume_buffer.

    Returns: the pointer, and the pages.
    Raises: BpfError, with a hint.
    """
    wanted = default_pages() if pages is None else pages
    pointer = None
    while pointer is None:
        try:
            with calling(operation, _hint):
                pointer = _open(map_fd, wanted, wake_after(wanted), callbacks)
        except BaseException as error:
            if pointer is not None:  # Ctrl-C came, or a handler of the log raised
                lib.perf_buffer__free(pointer)
                raise
            if pages is not None or wanted == 1 or not _is_too_large(error):
                raise
            wanted, why = wanted // 2, getattr(error, "hint", "")
    if pages is None and wanted < default_pages():
        logger.warning(
            "The buffers are smaller than usual, %d KiB for each CPU in place of %d: %s",
            wanted * PAGE_SIZE >> 10,
            default_pages() * PAGE_SIZE >> 10,
            why,
        )
    return pointer, wanted


def _is_too_large(error: BaseException) -> bool:
    """Whether smaller buffers may do."""
    if not isinstance(error, BpfError):
        return False
    forbidden = error.errno == errno.EPERM and not kernel.missing_capabilities()
    return forbidden or error.errno == errno.ENOMEM


def has_sample_period() -> bool:
    """Whether this libbpf's perf_buffer__new takes the number of events that wake the reader."""
    return libbpf_has("1.2")


def _open(map_fd: int, pages: int, events: int, callbacks: Callbacks) -> Any:
    if has_sample_period():
        opts = struct_class("perf_buffer_opts")(sample_period=events)
        return lib.perf_buffer__new(
            map_fd, pages, callbacks.sample, callbacks.lost, None, ctypes.byref(opts)
        )
    attr_class = struct_class("perf_event_attr")
    attr = attr_class(
        type=_PERF_TYPE_SOFTWARE,
        size=ctypes.sizeof(attr_class),
        config=_PERF_COUNT_SW_BPF_OUTPUT,
        sample_type=_PERF_SAMPLE_RAW,
        sample_period=events,
        wakeup_events=events,
    )
    return lib.perf_buffer__new_raw(map_fd, pages, ctypes.byref(attr), callbacks.event, None, None)


def _hint(error: BpfError) -> str:
    if error.errno == errno.EPERM and not kernel.missing_capabilities():
        return kernel.lockdown_hint() or kernel.memlock_hint()
    if error.errno in (errno.EPERM, errno.EACCES):
        return kernel.privilege_hint()
    if error.errno == errno.ENOMEM:
        return "The kernel has no memory for larger buffers: take fewer pages (--buffer SIZE)."
    return ""

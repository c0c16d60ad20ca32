"""``--format parquet``: a column for each field and argument. docs/parquet.md describes them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Callable

from ..errors import BpfError
from ..events import CallEvent
from .fetches import TEXT_SIZE
from .formats import is_cut, is_readable
from .json_lines import JsonLines
from .lines import Formatter, label_of
from .origin import traced_at
from .parquet_columns import argument_columns, arrow_type, by_name
from .text import Memo, WallClock, escape

if TYPE_CHECKING:
    from .account import Account
    from .formats import ShownArgument
    from .line_options import LineOptions
    from .origin import Origin, Traced
    from .parquet_file import ParquetFile
    from .stacks import Stacks

#: The first that writes metadata of its file behind the rows.
_OLDEST_PYARROW = 17

#: Of the columns and the file's metadata. It changes where what is there changes its meaning.
VERSION = 1

#: Events are kept as objects up to so many, and in columns up to so many rows and bytes.
_MOST_EVENTS, _MOST_ROWS, _MOST_BYTES = 4096, 1 << 16, 1 << 25

#: A row group is written after so many seconds; with each of these bytes of the footer, which
#: is written again then, later by so many seconds more.
_SECONDS, _FOOTER_STEP = 5.0, 100_000

#: The fields of an event that are columns as they are; what is None there is null.
_PLAIN = {
    "timestamp_ns": "int64", "cpu": "uint32", "uid": "uint32", "gid": "uint32",
    "host_pid": "uint32", "host_tid": "uint32", "cgroup": "uint64",
}  # fmt: skip

#: All columns but those of the arguments, in order, by their types' names in Arrow.
_TYPES = {
    "host": "string", "boot_id": "string", "clock_offset_ns": "int64", "timestamp_ns": "int64",
    "time": "time", "function": "string", "cpu": "uint32", "pid": "uint32", "tid": "uint32",
    "comm": "string", "uid": "uint32", "gid": "uint32", "host_pid": "uint32",
    "host_tid": "uint32", "ns_pid": "uint32", "ns_tid": "uint32", "cgroup": "uint64",
    "duration_ns": "int64", "kernel_stack": "strings", "user_stack": "strings",
    "unreadable": "strings", "cut": "strings",
}  # fmt: skip

#: What pyarrow raises of a value that is not of a type.
_UNFIT = (ValueError, OverflowError, TypeError)

#: By these a reader finds the row groups that it needs.
_STATISTICS = ["timestamp_ns", "time", "function", "comm", "pid", "duration_ns"]


class ParquetWriter(Formatter):
    """Writes each struct call_event as a row of options.output. It makes no text.

    Args:
        functions: of the trace.
        origin: here(), or a recording's.
        stacks: by the events' keys; None: none were asked for.

    Raises: BpfError: pyarrow is not there, or the file cannot be written; from all methods.
        From end() also: some values are not in the file.
    """

    def __init__(
        self,
        options: LineOptions,
        functions: tuple[Traced, ...],
        clock: WallClock,
        origin: Origin,
        stacks: Stacks | None = None,
    ) -> None:
        self._arrow = pyarrow = _import_pyarrow()
        from .parquet_file import ParquetFile

        self._functions, self._clock, self._stacks = functions, clock, stacks
        self._columns = argument_columns(functions, raw=options.raw_args)
        self._labels = Memo(lambda index: label_of(functions, index))
        self._names = Memo(escape)
        self._json = JsonLines(options, functions, clock, origin)
        self._metadata = {
            "version": str(VERSION),
            "host": escape(origin.host_name),
            "boot_id": escape(origin.boot_id),
            "clock_offset_ns": str(clock.offset_ns),
            "header": self._json.start().strip(),
        }
        self._lost = self._unfit = 0
        self._unfit_example = ""
        self._events: list[CallEvent] = []
        self._offset = 0
        self._batches: list[dict[str, Any]] = []
        self._rows = self._bytes = 0
        self._oldest = 0.0
        kinds = {**_TYPES, **{column.name: column.kind for column in self._columns}}
        self._types = {name: arrow_type(pyarrow, kind) for name, kind in kinds.items()}
        schema = pyarrow.schema(list(self._types.items()))
        self._nulls: dict[Any, Any] = {}
        self._file: ParquetFile | None = ParquetFile(options.output, schema, _STATISTICS)

    def format(self, events: Iterable[CallEvent]) -> str:
        if self._file is None:  # it could not be written to, as was told
            return ""
        if self._events and self._offset != self._clock.offset_ns:
            self._pack()  # those of another clock
        self._offset = self._clock.offset_ns
        if not self._events and not self._rows:
            self._oldest = time.monotonic()
        self._events += events
        while len(self._events) >= _MOST_EVENTS:
            rest = self._events[_MOST_EVENTS:]
            del self._events[_MOST_EVENTS:]
            self._pack()
            self._events = rest
        self.turn()
        return ""

    def lost(self, cpu: int, events: int) -> None:
        self._lost += events

    def turn(self) -> float | None:
        """Writes a row group that is old enough; returns in how many seconds the next is."""
        if self._file is None or not (self._events or self._rows):
            return None
        wanted = _SECONDS * (1 + self._file.footer_size / _FOOTER_STEP)
        left = self._oldest + wanted - time.monotonic()
        if left <= 0:
            self._write()
            return None
        return left

    def end(self, account: Account | None) -> str:
        if self._file is None:
            return ""
        if account is not None:
            self._metadata["summary"] = self._json.end(account).splitlines()[-1]
        self._write()
        self._file.close()
        self._file = None
        if self._unfit:
            reason = f"{self._unfit} values do not fit their columns: {self._unfit_example}"
            hint = "They are null in the file. The recording is damaged, or another tool's."
            raise BpfError("write Parquet", None, reason, hint=hint)
        return ""

    def _pack(self) -> None:
        """Makes columns of the events; writes a row group if there is enough of them."""
        events, self._events = self._events, []
        if not events:
            return
        batch = {name: self._array(name, values) for name, values in self._values(events)}
        batch["rows"] = len(events)
        self._batches.append(batch)
        self._rows += len(events)
        self._bytes += sum(array.nbytes for name, array in batch.items() if name != "rows")
        if self._rows >= _MOST_ROWS or self._bytes >= _MOST_BYTES:
            self._write()

    def _array(self, name: str, values: Sequence[Any]) -> Any:
        """A column of values; what it cannot hold is null in it, counted, and told at the end."""
        kind = self._types[name]
        with contextlib.suppress(*_UNFIT):
            return self._arrow.array(values, kind)
        fitting: list[Any] = []
        for value in values:
            try:
                fitting.append(self._arrow.scalar(value, kind))
            except _UNFIT:
                fitting.append(None)
                self._unfit += 1
                self._unfit_example = self._unfit_example or escape(f"{name} {value}")
        return self._arrow.array(fitting, kind)

    def _values(self, events: list[CallEvent]) -> Iterable[tuple[str, Sequence[Any]]]:
        """The columns of the events; one that is null for all of them is left out."""
        count, offset = len(events), self._offset
        fields = dict(zip(CallEvent._fields, zip(*events)))
        for name in ("host", "boot_id"):
            yield name, [self._metadata[name]] * count
        yield "clock_offset_ns", [offset] * count
        yield "time", [(ns + offset) // 1000 for ns in fields["timestamp_ns"]]
        yield "function", [self._labels[index] for index in fields["function"]]
        yield "comm", [self._names[name] for name in fields["comm"]]
        for name in _PLAIN:
            yield name, fields[name]
        hosts = fields["host_pid"]
        for name in ("pid", "tid"):  # none in the tracer's pid namespace
            pairs = zip(fields[name], fields["pid"], hosts)
            yield name, [number if pid or not host else None for number, pid, host in pairs]
        for name in ("ns_pid", "ns_tid"):
            if any(fields[name]):
                yield name, [number or None for number in fields[name]]
        yield from self._rare(events, fields)
        yield from self._arguments(events, fields["function"])

    def _rare(
        self, events: list[CallEvent], fields: dict[str, tuple[Any, ...]]
    ) -> Iterable[tuple[str, Sequence[Any]]]:
        """Durations, stacks, and what is to be said of the arguments of some events."""
        returns = [function.returns for function in self._functions]
        if any(returns):
            pairs = zip(fields["duration_ns"], fields["function"])
            of_return = {index for index, wanted in enumerate(returns) if wanted}
            yield "duration_ns", [ns if index in of_return else None for ns, index in pairs]
        stacks = self._stacks
        if stacks is not None:
            keys = fields["kernel_stack"]
            yield "kernel_stack", [stacks.kernel(key) if key else None for key in keys]
            pairs = zip(fields["user_stack"], fields["pid"])
            yield "user_stack", [stacks.user(key, pid) if key else None for key, pid in pairs]
        if any(fields["unreadable"]):
            yield "unreadable", [self._named(event, _is_unreadable) for event in events]
        if any(TEXT_SIZE in values for values in fields["values"]):
            yield "cut", [self._named(event, is_cut) for event in events]

    def _named(
        self, event: CallEvent, is_so: Callable[[ShownArgument, CallEvent], bool]
    ) -> list[str] | None:
        """The names of the event's arguments of which it is so; None where there is none."""
        arguments = traced_at(self._functions, event.function).arguments
        if not any(is_so(argument, event) for argument in arguments):  # as with most
            return None
        return [name for name, argument in by_name(arguments) if is_so(argument, event)]

    def _arguments(
        self, events: list[CallEvent], functions: tuple[int, ...]
    ) -> Iterable[tuple[str, Sequence[Any]]]:
        places: dict[int, list[int]] = {}
        if len(set(functions)) > 1:
            for place, index in enumerate(functions):
                places.setdefault(index, []).append(place)
        for column in self._columns:
            if not places:
                take = column.takers.get(functions[0])
                if take is not None:
                    yield column.name, take(events)
                continue
            if not places.keys() & column.takers.keys():
                continue
            values: list[Any] = [None] * len(events)
            for index, take in column.takers.items():
                theirs = places.get(index, [])
                for place, value in zip(theirs, take([events[place] for place in theirs])):
                    values[place] = value
            yield column.name, values

    def _write(self) -> None:
        """Writes all that is held as a row group."""
        assert self._file is not None
        self._pack()
        batches, self._batches = self._batches, []
        self._rows = self._bytes = 0
        self._oldest = time.monotonic()
        columns = {}
        for name, kind in self._types.items():
            chunks = [
                batch[name] if name in batch else self._null(kind, batch["rows"])
                for batch in batches
            ]
            columns[name] = self._arrow.chunked_array(chunks, kind)
        lost = {"lost": str(self._lost)}
        try:
            self._file.add(self._arrow.table(columns), {**self._metadata, **lost})
        except BpfError:
            self._file.close()  # another row group would spoil what is in it
            self._file = None
            raise

    def _null(self, kind: Any, rows: int) -> Any:
        """So many nulls, the same for all columns of a type."""
        if kind not in self._nulls:
            self._nulls[kind] = self._arrow.nulls(_MOST_EVENTS, kind)
        return self._nulls[kind].slice(0, rows)


def _import_pyarrow() -> Any:
    """The package. Raises: BpfError: there is none, or an old one."""
    hint = "Install it: pip install 'libbpf-ctypes[parquet]'"
    try:
        import pyarrow
    except ImportError as error:
        raise BpfError("write Parquet", None, f"pyarrow: {error}", hint=hint) from None
    version = str(pyarrow.__version__)
    if int(version.partition(".")[0]) < _OLDEST_PYARROW:
        reason = f"pyarrow {version} is older than {_OLDEST_PYARROW}"
        raise BpfError("write Parquet", None, reason, hint=hint)
    return pyarrow


def _is_unreadable(argument: ShownArgument, event: CallEvent) -> bool:
    return not is_readable(argument, event)

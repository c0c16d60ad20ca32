"""``--format otlp``: events as OpenTelemetry's log records, sent to a collector.

docs/otlp.md describes the records.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from .formats import json_value
from .json_lines import by_name
from .json_text import text as valid
from .lines import Formatter, label_of
from .lines import show as show_of
from .origin import traced_at
from .otlp_export import logs_url, make_exporter, shown_url
from .sending import Answer, Sender
from .text import escape

if TYPE_CHECKING:
    from ..errors import BpfError
    from ..events import CallEvent
    from .account import Account
    from .console import Console
    from .formats import ShownArgument
    from .line_options import LineOptions
    from .lines import Show
    from .origin import Origin, Traced
    from .stacks import Stacks
    from .text import WallClock

#: Seconds after the end of a trace in which the collector may still take events.
PATIENCE = 10.0

#: Of OTLP's integers, which have a sign.
_INT_MAX = 2**63 - 1

#: uname's words for machines, and the semantic conventions'.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm32", "i686": "x86"}

#: The semantic conventions' names for an event's fields, and ours where they have none.
_FIELDS = {
    "cpu": "cpu.logical_number",
    "comm": "thread.name",
    "uid": "process.real_user.id",
    "gid": "process.real_group.id",
    "cgroup": "ebpf_tool.cgroup_id",
    "timestamp_ns": "ebpf_tool.timestamp_ns",
}


class OtlpSender(Formatter):
    """Sends a record for each struct call_event; what cannot be sent in time is counted, and told.

    Args: stacks: of the trace, or the recording; None: it has none.

    Attributes: failed: whether some events were not sent.
    Raises: BpfError: the SDK is not installed. UsageError: the endpoint is none.
    """

    def __init__(
        self,
        options: LineOptions,
        functions: tuple[Traced, ...],
        clock: WallClock,
        origin: Origin,
        console: Console,
        stacks: Stacks | None = None,
    ) -> None:
        url = logs_url(options.endpoint)
        export, self._abort = make_exporter(url)
        self._url, self._console = escape(shown_url(url)), console
        self._clock, self._stacks = clock, stacks
        self._functions = functions
        self._raw = options.raw_args
        self._shown: dict[int, list[tuple[str, ShownArgument, Show]]] = {}
        self._make = _record_maker(origin)
        self._id, self._number = os.urandom(8).hex(), 0
        self._told_trouble = self._told_refusal = False
        self._ended = self._stopped = self.failed = False

        def send(batch: list[dict[str, Any]]) -> Answer:
            return export([self._make(**fields) for fields in batch])

        self._sender = Sender(send)

    def format(self, events: Iterable[CallEvent]) -> str:
        self._sender.add([self._event(event) for event in events])
        self._tell()
        return ""

    def wait(self, deadline: float) -> bool:
        room = self._sender.wait(deadline)
        self._tell()
        return room

    def stop(self) -> None:
        self._stopped = True

    def lost(self, cpu: int, events: int) -> None:
        text = f"{events} events lost on CPU {cpu}: they come faster than they are read"
        counts = {"ebpf_tool.lost": events, "cpu.logical_number": cpu}
        self._sender.add([self._fields("lost", "WARN", text, None, counts)])

    def error(self, error: BpfError | str) -> str:
        if not self._ended:
            self._sender.add([self._fields("error", "ERROR", escape(str(error)), None, {})])
        return ""

    def end(self, account: Account | None) -> str:
        """Waits until all is sent, PATIENCE at most; what is not is told."""
        if account is not None:
            self._sender.add([self._summary(account)])
        self._ended, self._stopped = True, False
        deadline = time.monotonic() + PATIENCE
        left = self._sender.end(deadline, lambda: self._stopped)
        self._abort()
        self._tell()
        sender, console = self._sender, self._console
        if left:
            why = f" ({escape(sender.trouble)})" if sender.trouble else ""
            after = "until it was stopped" if self._stopped else f"in {PATIENCE:.0f} seconds"
            console.error(f"{left} records were not taken by {self._url} {after}{why}.")
        if sender.refused:
            why = escape(sender.refusal)
            console.error(f"{sender.refused} records were refused by {self._url}: {why}.")
        self.failed = bool(left or sender.refused)
        console.info(f"{sender.sent} records sent to {self._url}, those of the trace itself too")
        return ""

    def _summary(self, account: Account) -> dict[str, Any]:
        counters = account.counters
        counts = {
            "seen": counters.seen,
            "filtered": counters.filtered,
            "unreadable": counters.unreadable,
            "delivered": account.delivered,
            "beyond": account.beyond,
            "lost": account.lost,
            "missed": account.missed,
            "duration_ns": account.duration_ns,
        }
        known = {f"ebpf_tool.{name}": n for name, n in counts.items() if n is not None}
        text = f"The trace ended: {account.shown} events, {account.lost} lost"
        return self._fields("summary", "INFO", text, None, known)

    def _tell(self) -> None:
        """Tells once that the collector is away, that it is back, and that it refuses."""
        sender = self._sender
        trouble = sender.trouble  # the thread sets it
        if trouble and not self._told_trouble:
            self._told_trouble = True
            self._console.warning(
                f"{self._url} does not take the events: {escape(trouble)}. They wait; when too "
                "many do, no more are read: a live trace counts what is lost then."
            )
        elif self._told_trouble and not trouble:
            self._told_trouble = False
            self._console.warning(f"{self._url} answers again")
        if sender.refused and not self._told_refusal:
            self._told_refusal = True
            self._console.error(
                f"{self._url} refuses events: {escape(sender.refusal)}. Look at --endpoint, and at "
                "OTEL_EXPORTER_OTLP_HEADERS for what it wants to see."
            )

    def _event(self, event: CallEvent) -> dict[str, Any]:
        """What a record is made of, by the clock and the stacks as they are now."""
        name = label_of(self._functions, event.function)
        attributes: dict[str, Any] = {"code.function.name": name}
        for field, attribute in _FIELDS.items():
            number = getattr(event, field)
            if number is not None:
                attributes[attribute] = number
        if event.pid or not event.host_pid:  # else the user's pid namespace does not have it
            attributes["process.pid"], attributes["thread.id"] = event.pid, event.tid
        if event.host_pid != event.pid:
            attributes["ebpf_tool.host_pid"] = event.host_pid
            attributes["ebpf_tool.host_tid"] = event.host_tid
        if event.ns_pid and event.ns_pid != event.pid:
            attributes["process.vpid"] = event.ns_pid
        shown = []
        for key, argument, show in self._arguments(event.function):
            words = show(event)
            shown.append(f"{key}={words}")
            value = json_value(argument, event)
            if value is None or (argument.text < 0 and str(value) != words):
                attributes[f"ebpf_tool.words.{key}"] = words
            if value is not None:
                attributes[f"ebpf_tool.arg.{key}"] = value
        attributes.update(self._more(event))
        time_ns = event.timestamp_ns + self._clock.offset_ns
        kind = "return" if self._is_return(event) else "call"
        return self._fields(kind, "INFO", f"{name} {', '.join(shown)}", time_ns, attributes)

    def _arguments(self, index: int) -> list[tuple[str, ShownArgument, Show]]:
        """A function's arguments, each with its key, as JSON has it, and what makes its words."""
        found = self._shown.get(index)
        if found is None:
            arguments = by_name(traced_at(self._functions, index).arguments)
            found = self._shown[index] = [
                (key, argument, show_of(argument, raw=self._raw)) for key, argument in arguments
            ]
        return found

    def _is_return(self, event: CallEvent) -> bool:
        return traced_at(self._functions, event.function).returns

    def _more(self, event: CallEvent) -> dict[str, Any]:
        """How long the call took, and who made it, as far as that was asked for."""
        found: dict[str, Any] = {}
        stacks = self._stacks
        if self._is_return(event):
            found["ebpf_tool.duration_ns"] = event.duration_ns
        if stacks is not None and event.kernel_stack:
            found["ebpf_tool.kernel_stack"] = [*stacks.kernel(event.kernel_stack)]
        if stacks is not None and event.user_stack:
            found["ebpf_tool.user_stack"] = [*stacks.user(event.user_stack, event.pid)]
        return found

    def _fields(
        self, kind: str, severity: str, text: str, time_ns: int | None, attributes: dict[str, Any]
    ) -> dict[str, Any]:
        """What a record is made of. A batch that is sent twice has the same ids."""
        self._number += 1
        attributes["log.record.uid"] = f"{self._id}-{self._number}"
        known = time_ns is not None and 0 <= time_ns < 2**64  # a damaged recording has any
        return {
            "name": f"ebpf_tool.{kind}",
            "severity": severity,
            "text": text.rstrip(),
            "time_ns": time_ns if known else None,
            "attributes": attributes,
        }


def _record_maker(origin: Origin) -> Callable[..., Any]:
    """A function that makes the SDK's log records of this machine's fields."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    version = valid(origin.tool_version)
    told = {
        "host.name": origin.host_name,
        "host.arch": _ARCHITECTURES.get(origin.machine, origin.machine),
        "os.type": "linux",
        "os.version": origin.kernel_release,
        "ebpf_tool.boot_id": origin.boot_id,
    }
    resource = Resource.create({name: valid(text) for name, text in told.items() if text})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # not OTEL_*'s
        resource = resource.merge(
            Resource({"service.name": "ebpf-tool", "service.version": version})
        )
    scope = InstrumentationScope("ebpf-tool", version)

    def make(
        name: str, severity: str, text: str, time_ns: int | None, attributes: dict[str, Any]
    ) -> Any:
        record = LogRecord(
            timestamp=time_ns,
            observed_timestamp=time.time_ns(),
            severity_text=severity,
            severity_number=SeverityNumber[severity],
            body=valid(text),
            attributes={name: _value(value) for name, value in attributes.items()},
            event_name=name,
        )
        return ReadableLogRecord(record, resource, scope)

    return make


def _value(value: Any) -> Any:
    """A value as OTLP can have it: valid text, integers of 63 bits and a sign."""
    if isinstance(value, str):
        return valid(value)
    return str(value) if isinstance(value, int) and value > _INT_MAX else value

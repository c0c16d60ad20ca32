"""Batches to an OpenTelemetry collector, one request each: what becomes of them is told exactly.

The SDK's exporter encodes, compresses and encrypts, as OTEL_EXPORTER_OTLP_* say. It repeats
requests by itself, takes an answer 302 for success and does not look at what a collector says it
rejected: that is decided here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import Any, Callable
from urllib.parse import urlsplit

from ..errors import BpfError
from .sending import Answer
from .usage import UsageError

_PATH = "/v1/logs"

#: "Not now": too many requests, time-outs, and all that a proxy says of a peer that is away.
_LATER = (408, 425, 429)

#: Seconds that a collector may ask us to wait.
_LONGEST_WAIT = 60.0

#: Characters of what it says that are shown.
_LONGEST_REASON = 200

#: Bytes of its answers that are read: a collector says no more than how many it rejected, and why.
_LONGEST_BODY = 1 << 16

#: Seconds for an answer, where the exporter sets none.
_TIMEOUT = 10.0

INSTALL = "pip install 'libbpf-ctypes[otlp]'"


def logs_url(endpoint: str) -> str:
    """Where log records go: the endpoint's /v1/logs. Raises: UsageError: it is no HTTP URL."""
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not endpoint.isprintable():
        example = "'--endpoint http://localhost:4318'"
        names = "--endpoint, or OTEL_EXPORTER_OTLP_ENDPOINT,"
        raise UsageError(f"{names} takes the URL of a collector, as in {example}")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(_PATH) else path + _PATH).geturl()


def shown_url(url: str) -> str:
    """The URL without what may be secret."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def make_exporter(url: str) -> tuple[Callable[[list[Any]], Answer], Callable[[], None]]:
    """What sends a batch of ReadableLogRecords, and what ends a request's connection.

    Raises: BpfError: the SDK is not installed.
    """
    try:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import ReadableLogRecord  # noqa: F401  # since 1.39
    except ImportError as error:
        reason = f"the OpenTelemetry SDK is missing, or too old ({error})"
        raise BpfError("send the events", None, reason, hint=f"Install it: {INSTALL}") from None
    # What goes wrong is told by us, once: the exporter's own messages would go to stderr.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    no_answer = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,  # it broke off in its midst
    )
    answers: list[Answer] = []

    class Session(requests.Session):  # type: ignore[misc]
        """Tells what became of a request, and lets the exporter neither repeat nor follow it."""

        def send(self, request: Any, **settings: Any) -> Any:
            settings["allow_redirects"], settings["stream"] = False, True
            end = time.monotonic() + (settings["timeout"] or _TIMEOUT)
            try:
                with super().send(request, **settings) as response:
                    answer = answer_of(response, lambda: _body(response, end))
            except no_answer as error:
                answer = Answer(_reason(error), again=True)
            except Exception as error:  # a server may answer anything
                answer = Answer(f"no answer that makes sense ({_reason(error)})", refused=-1)
            answers.append(answer)
            if answer.again or answer.refused < 0:
                raise requests.RequestException("told already")
            return response

    session = Session()
    exporter = OTLPLogExporter(endpoint=url, session=session)

    def send(batch: list[Any]) -> Answer:
        answers.clear()
        taken = False
        with contextlib.suppress(requests.RequestException):  # which some versions let through
            taken = exporter.export(batch).value == 0  # SUCCESS of an enum with several names
        answer = answers[-1] if answers else Answer("the SDK could not send it", refused=-1)
        answer = answer._replace(reason=answer.reason[:_LONGEST_REASON])
        if not (taken or answer.again) or answer.refused < 0:
            return answer._replace(refused=len(batch))
        return answer

    return send, exporter.shutdown


def answer_of(response: Any, read_body: Callable[[], bytes]) -> Answer:
    """What a collector's answer says of the batch. ``refused`` is -1 for all of it."""
    status = response.status_code
    reason = f"{status} {response.reason or ''}".strip()
    if status in _LATER or status >= 500:
        return Answer(reason, again=True, after=_wait(response.headers.get("Retry-After", "")))
    if not 200 <= status < 300:
        return Answer(reason, refused=-1)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        return Answer("it answers with a page for browsers, as no collector does", refused=-1)
    rejected, message = _rejected(response, read_body())
    return Answer(message or "no reason given", refused=rejected) if rejected else Answer()


def _body(response: Any, end: float) -> bytes:
    """The answer's body, read until END (of time.monotonic) at most.

    Raises: requests.Timeout: it goes on. ValueError: it is longer than any collector's.
    """
    import requests

    found = bytearray()
    for byte in response.iter_content(1):  # larger pieces would wait until they are there
        found += byte
        if len(found) > _LONGEST_BODY:
            raise ValueError(f"it has more than {_LONGEST_BODY} bytes")
        if time.monotonic() > end:
            raise requests.Timeout("the answer does not end")
    return bytes(found)


def _rejected(response: Any, body: bytes) -> tuple[int, str]:
    """How many records of a batch a collector says that it rejected, and why."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/x-protobuf" and body:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
            ExportLogsServiceResponse,
        )

        answer = ExportLogsServiceResponse.FromString(body).partial_success
        return answer.rejected_log_records, answer.error_message
    if kind == "application/json" and body:
        partial = json.loads(body).get("partialSuccess") or {}
        return int(partial.get("rejectedLogRecords", 0)), str(partial.get("errorMessage", ""))
    return 0, ""


def _wait(text: str) -> float:
    """The seconds of a Retry-After; 0: none, or a date."""
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() and text.isascii() else 0.0


def _reason(error: BaseException) -> str:
    """Why a request got no answer, in the words of the innermost error."""
    for _ in range(8):
        inner = [*error.args, getattr(error, "reason", None), error.__cause__, error.__context__]
        found = next((one for one in inner if isinstance(one, BaseException)), None)
        if found is None:
            break
        error = found
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

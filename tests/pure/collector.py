"""An OpenTelemetry collector of the tests' own: real HTTP, its requests decoded."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from .helpers import port_of_our_own


class Collector:
    """Takes log records at a port of this machine, until it is closed.

    Args: port: 0: one that nobody else takes when it is gone.

    Attributes:
        records: that it took, in the order they came; ``resource``: the last one's attributes.
        answers: (status, headers, body) of the next requests; none left: it takes all.
        requests: how many came; headers: the last one's.
        gate: while it is cleared, requests wait for their answers.
    """

    def __init__(self, port: int = 0) -> None:
        self.records: list[Any] = []
        self.resource: dict[str, Any] = {}
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.requests = 0
        self.path = ""
        self.headers: dict[str, str] = {}
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.gate.wait()
                status, headers, answer = collector.take(self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self) -> None:  # where a redirect would lead
                collector.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 16

            def process_request(self, request: Any, client_address: Any) -> None:
                collector._connections.append(request)
                super().process_request(request, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a connection that close() ended

        self._server = Server(("127.0.0.1", port or port_of_our_own()), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def take(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """The answer to a request; its records are kept if it says so."""
        with self._lock:
            self.requests += 1
            self.path, self.headers = path, headers
            if self.answers:
                answer = self.answers.pop(0)
                if not 200 <= answer[0] < 300:
                    return answer
            else:
                body_of = ExportLogsServiceResponse().SerializeToString()
                answer = 200, {"Content-Type": "application/x-protobuf"}, body_of
            for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.resource = attributes_of(of_resource.resource)
                for of_scope in of_resource.scope_logs:
                    self.records += of_scope.log_records
            return answer

    def events(self) -> list[dict[str, Any]]:
        """The attributes of the records that are events."""
        kinds = ("ebpf_tool.call", "ebpf_tool.return")
        return [attributes_of(one) for one in self.records if one.event_name in kinds]

    def close(self) -> None:
        """Goes away: its connections end, and its port refuses new ones."""
        self._server.shutdown()
        self._server.socket.close()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)
        self.gate.set()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def attributes_of(message: Any) -> dict[str, Any]:
    """The attributes of a decoded message, by name."""
    return {pair.key: _plain(pair.value) for pair in message.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind)

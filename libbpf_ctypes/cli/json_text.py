"""JSON as all commands print it: one object per line, in plain ASCII."""

from __future__ import annotations

import json
from typing import Any

#: Of the objects. It changes where what is there changes its meaning, not where more comes.
VERSION = 1


def line(kind: str, **fields: Any) -> str:
    """An object of this type, as a line."""
    return json.dumps({"type": kind, **fields}, separators=(",", ":")) + "\n"


def text(text: str) -> str:
    """TEXT with U+FFFD for each byte that is not UTF-8: JSON has no place for them."""
    if text.isascii():
        return text
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def hex_bytes(text: str) -> str:
    """The bytes of a text in hex; "" where they are UTF-8."""
    if text.isascii() or not any("\udc80" <= character <= "\udcff" for character in text):
        return ""
    return text.encode("utf-8", "surrogateescape").hex()

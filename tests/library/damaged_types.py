"""Reads damaged variants of BTF, each in a process of its own, and reports as JSON.

Run by test_btf_damaged.py: ``python damaged_types.py FILE``, FILE of raw BTF.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from libbpf_ctypes import BpfError, library_version
from libbpf_ctypes.btf import Btf, Kind

from .damaged import outcome

VARIANTS = 120
SEED = 20261123


def use(data: bytes) -> str:
    """Reads all that there is and prints it; what came of it, in a word."""
    try:
        with Btf.from_bytes(data) as btf:
            _read(btf)
            try:
                btf.dump()
            except BpfError:
                return "not printed"
            return "printed"
    except BpfError as error:
        return "refused" if str(error) else "refused without a word"
    except BaseException as error:
        return repr(error)


def _read(btf: Btf) -> None:
    for identity in range(btf.type_count):
        for look in (btf.find, btf.type, btf.layout, btf.declaration, _initializer(btf)):
            with suppress(BpfError):
                look(identity)
    for entry in btf.types(Kind.FUNC):
        with suppress(BpfError):
            btf.function(entry)


def _initializer(btf: Btf) -> Callable[[int], str]:
    return lambda identity: btf.format_data(identity, bytes(min(btf.type(identity).size, 4096)))


def main() -> None:
    """Prints [[place, outcome], ...]."""
    library_version()  # loaded once, before the children
    whole = Path(sys.argv[1]).read_bytes()
    chance = random.Random(SEED)
    outcomes = []
    for _ in range(VARIANTS):
        at = chance.randrange(len(whole))
        changed = bytearray(whole)
        # Mostly small numbers: ids of other types, which make circles.
        changed[at] = chance.choice([chance.randrange(256), chance.randrange(40)])
        outcomes.append([at, outcome(use, bytes(changed))])
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()

"""Which folder of tests this machine can run; under CI each of them must run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CI = os.environ.get("CI") == "true"


def _missing_for_library() -> str:
    from libbpf_ctypes import LibraryError, library_version

    try:
        library_version()
    except LibraryError as error:
        return str(error)
    return ""


def _missing_for_root() -> str:
    return "" if os.geteuid() == 0 else "needs root: run 'sudo bin/test'"


def _missing_for_vm() -> str:
    if _missing_for_root():
        return _missing_for_root()
    if not shutil.which("qemu-system-x86_64"):
        return "needs QEMU: 'bin/vm true' sets it up"
    return ""


# Each folder also needs what the ones before it need.
REQUIREMENTS = {
    "pure": (),
    "library": (_missing_for_library,),
    "root": (_missing_for_library, _missing_for_root),
    "vm": (_missing_for_library, _missing_for_vm),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that this machine cannot run and says why; fails it under CI."""
    folder = item.path.relative_to(TESTS).parts[0]
    for missing in REQUIREMENTS[folder]:
        reason = missing()
        if reason and CI:
            pytest.fail(f"tests/{folder} {reason}", pytrace=False)
        if reason:
            pytest.skip(f"tests/{folder} {reason}")

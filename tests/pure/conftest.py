"""Settings of the pure tests."""

from __future__ import annotations

from hypothesis import settings

# No test measures time: this machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

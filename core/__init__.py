"""The engine, one subject a room; it knows no task and holds no loop (docs/architecture.md)."""

import os

from core.base import imported as _imported  # noqa: F401 - first: it notes when this process began

# How long a thread of libgomp waits for the others before it sleeps, read when torch is imported.
# By default it waits so long that beside another busy process two threads are slower than one:
# bench/busy.py has figures. Bits do not depend on it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

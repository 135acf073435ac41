"""The engine, one subject a room; it knows no task and holds no loop (docs/architecture.md)."""

from core.base import imported as _imported  # noqa: F401 - first: it notes when this process began

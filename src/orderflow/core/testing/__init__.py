"""The twins in memory of store and log, for tests and simulation: deterministic on a given event loop."""

from orderflow.core.testing.log import MemoryConsumer, MemoryLog, MemoryTransport

__all__ = ["MemoryConsumer", "MemoryLog", "MemoryTransport"]

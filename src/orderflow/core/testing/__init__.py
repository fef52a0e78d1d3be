"""A log in memory, for tests and simulation: deterministic on a given event loop, without threads."""

from orderflow.core.testing.log import MemoryConsumer, MemoryLog, MemoryTransport

__all__ = ["MemoryConsumer", "MemoryLog", "MemoryTransport"]

"""A log in memory, for tests and simulation: deterministic on a given event loop, without threads."""

from orderflow.messaging.transports.memory.consumer import MemoryConsumer
from orderflow.messaging.transports.memory.log import MemoryLog
from orderflow.messaging.transports.memory.transport import MemoryTransport

__all__ = ["MemoryConsumer", "MemoryLog", "MemoryTransport"]

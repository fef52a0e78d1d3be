"""Apache Kafka through librdkafka's synchronous clients on threads of their own."""

from orderflow.core.kafka.consumer import KafkaConsumer
from orderflow.core.kafka.transport import KafkaTransport

__all__ = ["KafkaConsumer", "KafkaTransport"]

"""Apache Kafka through librdkafka's synchronous clients on threads of their own."""

from orderflow.messaging.transports.kafka.consumer import KafkaConsumer
from orderflow.messaging.transports.kafka.transport import KafkaTransport

__all__ = ["KafkaConsumer", "KafkaTransport"]

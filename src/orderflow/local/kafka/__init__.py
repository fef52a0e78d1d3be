"""A real Apache Kafka on this machine: one broker, from jars that Maven fetches."""

from orderflow.local.kafka.broker import LocalKafka

__all__ = ["LocalKafka"]

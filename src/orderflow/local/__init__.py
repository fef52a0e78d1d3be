"""Run everything on one machine: an embedded PostgreSQL, a local Kafka, a supervisor."""

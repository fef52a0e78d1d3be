"""The contract between the services: typed, versioned events and their topics. It knows no reader and no Kafka."""

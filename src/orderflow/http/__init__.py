"""Runs any service: HTTP frame, health, metrics, documents, clean start and stop."""

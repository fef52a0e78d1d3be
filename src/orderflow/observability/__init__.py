"""Logs and metrics: subscribers of the core's signals."""

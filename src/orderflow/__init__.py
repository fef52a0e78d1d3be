"""Orderflow: an event-driven order-processing platform."""

__version__ = "0.1.0"

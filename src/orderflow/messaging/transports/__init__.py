"""Implementations of the transport port."""

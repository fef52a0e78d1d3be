"""Chaos: what decides and what judges."""

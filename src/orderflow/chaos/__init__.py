"""Chaos: the whole system in real processes under load, faults on purpose, and a verdict over what came of it."""

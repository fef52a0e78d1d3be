"""Planted bugs: what the tests are worth is what they catch."""

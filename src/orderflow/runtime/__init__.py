"""Runs a service as a process: from settings to parts, and to a clean end."""

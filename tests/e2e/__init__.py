"""Real processes, started by `orderflow up`, on both transports."""

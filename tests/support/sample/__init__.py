"""The smallest service there can be: it counts what it is told to, in PostgreSQL, and says so on a topic."""

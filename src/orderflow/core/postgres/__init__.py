"""A service's database in PostgreSQL: set-based statements, two calls a batch."""

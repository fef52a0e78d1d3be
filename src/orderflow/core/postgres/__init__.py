"""A service's database in PostgreSQL: set-based statements, one transaction a batch."""

"""A twin of the PostgreSQL store for tests and simulation: same promises, same refusals, no disk."""

"""Mutation testing of the code that decides: `python -m tests.mutation --help`."""

"""The five promises as checks over the books of all services and of the bank."""

"""A bank, as the payment service asks it: the port to any, and one that is simulated, with a book of its own."""

"""Why an order is where it is: what the services say of it, and what follows from that."""

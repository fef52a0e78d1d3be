"""Every interleaving of one or two orders: the services' decisions, from state to state until none is new."""

"""The inventory service: sets units aside for paid orders, all lines of an order or none."""

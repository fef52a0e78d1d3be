"""What a client is made of that sends many orders: connections, and what there is to order."""

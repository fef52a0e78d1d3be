"""What a customer is called, encrypted under a key of his own, so that it can be forgotten everywhere at once."""

"""The four services of an order's saga, and the simulated bank. None imports another."""

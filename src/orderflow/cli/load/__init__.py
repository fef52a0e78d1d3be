"""The load of `orderflow demo`: many orders over HTTP, and what became of them."""

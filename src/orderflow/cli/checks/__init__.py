"""The checks of `orderflow doctor`."""

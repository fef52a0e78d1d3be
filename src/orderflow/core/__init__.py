"""The messaging library. It knows no order and no HTTP; `orderflow` is its front door."""

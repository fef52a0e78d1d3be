"""The reusable core: envelope, transports, the one way in, outbox and relay. It knows no order and no HTTP."""

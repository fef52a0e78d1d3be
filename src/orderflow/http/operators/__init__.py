"""What operators ask of the owning service: `/ops/…`."""

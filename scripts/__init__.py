"""What developers and the continuous integration run. Nothing here is installed."""

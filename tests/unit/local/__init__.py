"""The one-command run: its pure parts."""

"""What operators do about events that were parked or given up: look, rehearse, replay, edit, discard.

Nothing here knows what an event means to its service.
"""

"""Game days: faults put into a running service on purpose, for rehearsals, demonstrations and tests.

Nothing here is met by a process that was not started for it.
"""

"""What is wrong with the settings, in one sentence."""

from __future__ import annotations


class SettingsError(Exception):
    """Names the key, the value and what was wanted. Its text is fit to be shown to a user."""

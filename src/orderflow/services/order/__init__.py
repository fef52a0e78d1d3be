"""The order service: takes orders from shops and carries each to its end."""

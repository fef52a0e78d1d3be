"""The events as other programs need them: an AsyncAPI document, JSON Schemas, and what may change in them."""

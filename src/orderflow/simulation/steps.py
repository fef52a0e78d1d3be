"""The steps at which a process can crash, fail or be late. After one step is before the next."""

from __future__ import annotations

STORE_STEPS = (
    "begin",
    "open",
    "opened",
    "commit",
    "committed",
    "due_keys",
    "claim_intents",
    "claim_slots",
    "unsent",
    "mark_sent",
)
TRANSPORT_STEPS = ("append", "appended", "poll", "settle")
BANK_STEPS = ("charge", "charged", "refund", "refunded", "count_call")
STEPS = (*STORE_STEPS, *TRANSPORT_STEPS, *BANK_STEPS)

"""Examples of what operators send and see, for the documents: one event that payment cannot handle."""

from __future__ import annotations

from typing import Any

from orderflow.http.operation import Example

_GIVEN_UP_AT = "2026-11-26T12:27:40.112000Z"
_EVENT_ID = "6d2f1a0c-6a0b-5f0e-9a53-6a9d6b3f4c11"
_TYPE = "orderflow.OrderPlaced.v1"
_PRINT = "9f86d081884c7d65"
_FAILURE: dict[str, Any] = {"error": "ValueError", "message": "/total: it is 1, and the items add up to 2500"}
_VALUE = {"text": '{"order_id":"' + Example.ORDER_ID + '","total":1}', "base64": None}
_HEADERS = [["ce_type", {"text": _TYPE, "base64": None}]]
_PLACE: dict[str, Any] = {"topic": "order-events", "partition": 1, "offset": 41}

FILTER: dict[str, Any] = {"consumer": "payment", "type": _TYPE}
CONFIRMED: dict[str, Any] = {"reason": "Release 1.4.2 fixes it.", "confirmed": True}
REASON: dict[str, Any] = {"reason": "Republished from the outbox."}

LETTER: dict[str, Any] = {
    "position": 7,
    "consumer": "payment",
    "key": Example.ORDER_ID,
    "event_id": _EVENT_ID,
    "event_type": _TYPE,
    "state": "dead",
    "attempts": 6,
    "replays": 0,
    "behind": 1,
    "edited": False,
    "kind": "permanent",
    **_FAILURE,
    "fingerprint": _PRINT,
    **_PLACE,
    "parked_at": Example.PLACED_AT,
    "first_failed_at": Example.PLACED_AT,
    "last_failed_at": _GIVEN_UP_AT,
    "next_attempt_at": _GIVEN_UP_AT,
}
PAGE: dict[str, Any] = {"dead_letters": [LETTER], "next": None, "confirm": ""}
HISTORY: list[dict[str, Any]] = [
    {"at": Example.PLACED_AT, "moment": "failed", "attempt": 1, **_FAILURE, "who": ""},
    {"at": _GIVEN_UP_AT, "moment": "dead", "attempt": 6, **_FAILURE, "who": ""},
]
DETAILS: dict[str, Any] = {
    "letter": LETTER,
    "value": _VALUE,
    "headers": _HEADERS,
    "original": None,
    "history": HISTORY,
    "followers": [
        {
            "position": 9,
            "event_id": "0b8b8c52-0c5f-5a57-8f0a-1d7e2a9f6c03",
            "event_type": _TYPE,
            "state": "held",
            "parked_at": _GIVEN_UP_AT,
        }
    ],
    "confirm": "",
}
GROUP: dict[str, Any] = {
    "fingerprint": _PRINT,
    **_FAILURE,
    "count": 3,
    "keys": 3,
    "consumers": ["payment"],
    "event_types": [_TYPE],
    "first_seen": Example.PLACED_AT,
    "last_seen": _GIVEN_UP_AT,
    "example": 7,
    "note": "The shop's release of Thursday; see its ticket 4711.",
}
EDIT: dict[str, Any] = {"text": _VALUE["text"], "seen": _EVENT_ID, **CONFIRMED}
PREVIEW: dict[str, Any] = {"event_id": _EVENT_ID, "changes": [{"field": "total", "before": "1", "after": "2500"}]}
REPRODUCTION: dict[str, Any] = {
    "service": "payment",
    "consumer": "payment",
    "key": Example.ORDER_ID,
    "identity": f"{_EVENT_ID}",
    "event_id": _EVENT_ID,
    "event_type": _TYPE,
    "attempts": 6,
    "intent": None,
    **_FAILURE,
    **_PLACE,
    "timestamp": 1_795_695_996_796,
    "record_key": {"text": Example.ORDER_ID, "base64": None},
    "value": _VALUE,
    "headers": _HEADERS,
    "rows": [],
}
REHEARSED: list[dict[str, Any]] = [
    {
        "position": 7,
        "consumer": "payment",
        "key": Example.ORDER_ID,
        "event_id": _EVENT_ID,
        "event_type": _TYPE,
        "verdict": "succeeds",
        "kind": "",
        "error": "",
        "message": "",
        "rows": [
            {
                "table": "payments",
                "id": Example.ORDER_ID,
                "before": None,
                "after": {"status": "CHARGING", "amount": 2500},
            }
        ],
        "events": [],
        "intents": [f"charge:{Example.ORDER_ID}"],
    }
]
_PLAN: dict[str, Any] = {"rate_per_s": 50.0, "canary": True, "failing_share_max": 0.05, "lag_growth_max": 1000}
REPLAY_WANTED: dict[str, Any] = {"filter": FILTER, "plan": _PLAN, **CONFIRMED}
REPLAY: dict[str, Any] = {
    "number": 1,
    "state": "running",
    "why": "",
    "who": "anna",
    "reason": CONFIRMED["reason"],
    "plan": _PLAN,
    "created_at": _GIVEN_UP_AT,
    "step": 1,
    "progress": {
        "waiting": 2,
        "under_way": 1,
        "succeeded": 0,
        "failed_again": 0,
        "discarded": 0,
        "gone": 0,
    },
}
ACTIONS: list[dict[str, Any]] = [
    {
        "number": 12,
        "at": _GIVEN_UP_AT,
        "who": "anna",
        "action": "replay",
        "target": "replay 1: 3 events",
        "reason": CONFIRMED["reason"],
        "result": "begun",
    }
]
EXPIRED: list[dict[str, Any]] = [
    {
        "consumer": "payment",
        "topic": "order-events",
        "partition": 1,
        "first_lost": 41,
        "next_kept": 44,
        "count": 3,
        "noticed_at": _GIVEN_UP_AT,
    }
]
STUCK: list[dict[str, Any]] = [
    {"consumer": "payment", "keys": 3, "retrying": 0, "dead": 3, "held": 1, "oldest": Example.PLACED_AT}
]
LAG: list[dict[str, Any]] = [
    {
        "consumer": "payment",
        "topic": "order-events",
        "partition": 1,
        "committed": 41,
        "first": 0,
        "end": 44,
        "lag": 3,
        "expired": 0,
        "held": 0,
    }
]
TRAIL: dict[str, Any] = {
    "received": [
        {
            "consumer": "payment",
            "identity": "orderflow.OrderPlaced",
            "event_id": _EVENT_ID,
            "state": "done",
            "at": Example.PLACED_AT,
        }
    ],
    "unsent": [],
    "asked": [
        {
            "key": f"charge:{Example.ORDER_ID}",
            "kind": "charge",
            "attempts": 1,
            "since": Example.PLACED_AT,
            "due_at": _GIVEN_UP_AT,
        }
    ],
}
PUBLISHED: list[dict[str, Any]] = [
    {"topic": "order-events", "count": 4, "oldest": Example.PLACED_AT, "newest": _GIVEN_UP_AT}
]
REPUBLISH: dict[str, Any] = {
    "topic": "order-events",
    "from_ms": 1_795_695_996_000,
    "reason": "The topic was deleted.",
    "confirmed": True,
}
SAID: dict[str, Any] = {
    "type": "orderflow.StockReserved.v1",
    "topic": "inventory-status",
    "event_id": "4b0d9c5e-61b1-5d0f-8f3e-2a7c9e5d1b60",
    "source": "/orderflow/inventory",
    "sequence": 1,
    "value": (
        '{"order_id":"'
        + Example.ORDER_ID
        + '","customer_id":"c-1","lines":[{"sku":"SKU-ESPRESSO-CUP","quantity":2}]}'
    ),
}
STANDING: dict[str, Any] = {"said": [SAID], "asks": []}
REGARDED: dict[str, Any] = {"consumer": "order", "type": SAID["type"], "regard": "missing", "why": ""}
FAULT: dict[str, Any] = {
    "event_type": "OrderPlaced",
    "field": "sku",
    "value": "SKU-ESPRESSO-CUP",
    "error": "permanent",
    "share": 0.5,
}
FAULTS: list[dict[str, Any]] = [{**FAULT, "id": 1}]
_OVERRULE: dict[str, Any] = {
    "verdict": "poison",
    "who": "anna",
    "reason": "The shop sends a field that this release cannot read.",
    "until": "2026-11-26T13:27:40.112000Z",
}
OUTAGES: dict[str, Any] = {
    "consumers": ["payment"],
    "outages": [
        {
            "consumer": "payment",
            "event_type": _TYPE,
            "state": "outage",
            "for_ms": 14_000,
            "failing": 9,
            "tried": 10,
            "error": _FAILURE["error"],
            "fingerprint": _PRINT,
            "overruled": None,
        }
    ],
}
OVERRULE: dict[str, Any] = {
    "consumer": "payment",
    "event_type": "OrderPlaced",
    "verdict": "poison",
    "reason": _OVERRULE["reason"],
}
OVERRULED: dict[str, Any] = {"consumer": "payment", "event_type": _TYPE, "overruled": _OVERRULE}

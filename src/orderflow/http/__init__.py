"""HTTP: server, application, problem documents, and the operators' endpoints.

What the author of a service imports of it stands in `__all__`, under the rules of the front door (`orderflow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.front_door import front_door

if TYPE_CHECKING:
    from orderflow.http.operation import (
        INVALID_REQUEST,
        KEY_REUSED,
        MALFORMED_KEY,
        MALFORMED_REQUEST,
        OVERLOADED,
        REQUEST_IN_PROGRESS,
        UNAVAILABLE,
        Example,
        Operation,
        Parameter,
        ProblemType,
        Reply,
        Request,
        Response,
        page_limit,
        route,
    )
    from orderflow.http.operators.asking import CONFIRM, OPERATORS_TAG, act_of, operator
    from orderflow.http.operators.customers import CustomerOperations, Records
    from orderflow.http.operators.proposals import PROPOSED
    from orderflow.http.problems import FieldError, ProblemError
    from orderflow.http.validation import FilledText, IdEnd, Text

__all__ = [
    "CONFIRM",
    "INVALID_REQUEST",
    "KEY_REUSED",
    "MALFORMED_KEY",
    "MALFORMED_REQUEST",
    "OPERATORS_TAG",
    "OVERLOADED",
    "PROPOSED",
    "REQUEST_IN_PROGRESS",
    "UNAVAILABLE",
    "CustomerOperations",
    "Example",
    "FieldError",
    "FilledText",
    "IdEnd",
    "Operation",
    "Parameter",
    "ProblemError",
    "ProblemType",
    "Records",
    "Reply",
    "Request",
    "Response",
    "Text",
    "act_of",
    "operator",
    "page_limit",
    "route",
]

_HOMES = {
    "orderflow.http.operation": (
        "INVALID_REQUEST KEY_REUSED MALFORMED_KEY MALFORMED_REQUEST OVERLOADED REQUEST_IN_PROGRESS UNAVAILABLE "
        "Example Operation Parameter ProblemType Reply Request Response page_limit route"
    ),
    "orderflow.http.operators.asking": "CONFIRM OPERATORS_TAG act_of operator",
    "orderflow.http.operators.customers": "CustomerOperations Records",
    "orderflow.http.operators.proposals": "PROPOSED",
    "orderflow.http.problems": "FieldError ProblemError",
    "orderflow.http.validation": "FilledText IdEnd Text",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = front_door(__name__, _HOMES)

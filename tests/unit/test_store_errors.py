"""Which error of the driver is which error of the store port."""

from __future__ import annotations

import asyncpg
import pytest

from orderflow.core.postgres.sessions import LockedError, named_in, translate, translated
from orderflow.core.store import DataRefusedError, SchemaBehindError, StoreUnavailableError, TransitionRefusedError


def postgres_error(state: str) -> asyncpg.PostgresError:
    """As the driver makes it from the fields of the server's message."""
    return asyncpg.PostgresError.new({"C": state, "M": "what the server said"})


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        (
            "08006 08P01 28P01 40001 40P01 53100 53200 53300 57014 57P01 57P03 58030 25006 25P03 42501 XX000",
            StoreUnavailableError,
        ),
        ("22001 22003 22021 22P02 23502 23503 23505 23514 P0001 54000 21000", DataRefusedError),
        ("OF001", TransitionRefusedError),
        ("55P03", LockedError),
        ("42P01 42703 42883 42704 3D000", SchemaBehindError),
        ("42601 42804 25P02 0A001", type(None)),
    ],
)
def test_every_class_of_sqlstate_has_its_meaning(states: str, kind: type) -> None:
    for state in states.split():
        assert type(translate(postgres_error(state))) is kind, state


class Cuttable:
    cut = False

    def terminate(self) -> None:
        self.cut = True


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        *(
            (postgres_error(state), True)
            for state in ["08006", "25006", "42501", "53100", "53300", "57014", "57P01", "58030", "XX000"]
        ),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        *((postgres_error(state), False) for state in ["40001", "40P01", "55P03", "23505", "22001", "42P01"]),
        (ValueError("ours"), False),
    ],
    ids=lambda value: getattr(value, "sqlstate", None) or str(value),
)
def test_a_session_ends_with_an_error_that_leaves_it_in_doubt_or_that_another_server_may_not_have(
    error: Exception, ends: bool
) -> None:
    connection = Cuttable()
    with pytest.raises(Exception), translated(connection):  # noqa: B017, PT011  # what it becomes is tested above
        raise error
    assert connection.cut is ends


def test_a_refusal_carries_its_sqlstate_and_constraint_and_no_values() -> None:
    error = asyncpg.UniqueViolationError("duplicate key")
    error.constraint_name = "orders_pkey"
    error.detail = "Key (card)=(4111) already exists."
    refused = translate(error)
    assert isinstance(refused, DataRefusedError)
    assert (refused.sqlstate, refused.constraint) == ("23505", "orders_pkey")
    assert refused.named == {"4111"}
    assert "4111" not in f"{refused} {refused!r}"


@pytest.mark.parametrize(
    ("detail", "named"),
    [
        ("", set()),
        ("Key (order_id)=(0199-ab) already exists.", {"0199-ab"}),
        ("Key (sku, version)=(SKU (old), 5) already exists.", {"SKU (old)", "5"}),
        ('Key (parcel_id)=(p) is not present in table "parcels".', {"p"}),
        (
            "Failing row contains (SKU-1, -3, null, 2026-01-01 00:00:00+00).",
            {"SKU-1", "-3", "2026-01-01 00:00:00+00"},
        ),
        ("La ligne en échec contient (a, ).", {"a"}),
        ("Schlüssel »(k)=(1)« existiert bereits.", {"1"}),
        ("\\u0000 cannot be converted to text.", set()),
    ],
)
def test_the_values_of_a_refused_row_or_key_are_read_in_every_language(detail: str, named: set[str]) -> None:
    assert named_in(detail) == named


@pytest.mark.parametrize(
    "error",
    [
        OSError("refused"),
        TimeoutError(),
        ConnectionResetError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("unexpected message"),
    ],
)
def test_the_network_is_infrastructure(error: Exception) -> None:
    assert isinstance(translate(error), StoreUnavailableError)


def test_a_value_that_the_driver_cannot_encode_is_refused_data() -> None:
    assert isinstance(translate(asyncpg.DataError("invalid input for query argument $1")), DataRefusedError)


def test_defects_of_ours_stay_what_they_are() -> None:
    with pytest.raises(asyncpg.InterfaceError), translated():
        raise asyncpg.InterfaceError("the server expects 3 arguments for this query, 2 were passed")
    with pytest.raises(LookupError), translated():
        raise LookupError


def test_the_cause_is_kept() -> None:
    cause = OSError("refused")
    with pytest.raises(StoreUnavailableError) as raised, translated():
        raise cause
    assert raised.value.__cause__ is cause

"""Which services a system is made of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orderflow import registry
from orderflow.registry import SAGA, RegistryError, default_port, service_names, service_of
from orderflow.settings import Settings

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Adds a distribution with these entry points to a folder of `sys.path`."""
    for each in (registry.service_names, registry.service_of, registry.targets):
        each.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)

    def add(distribution: str, entry_points: str) -> None:
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_text(entry_points, encoding="utf-8")

    yield add
    for each in (registry.service_names, registry.service_of, registry.targets):
        each.cache_clear()


def test_the_saga_comes_first_and_the_others_by_name_each_with_the_next_port(install: Install) -> None:
    install("b", "[console_scripts]\nx = y:z\n\n[orderflow.services]\nshipping = parcels:SERVICE\n")
    install("a", "[orderflow.services]\n# returned\nreturns = returned:SERVICE [extra]\n")
    assert service_names() == (*SAGA, "returns", "shipping")
    assert [default_port(name) for name in service_names()] == [8001, 8002, 8003, 8004, 8005, 8006]
    assert default_port("mail") == 0


def test_what_is_no_distribution_or_has_no_entry_points_is_passed_over(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c-1.0.dist-info").mkdir()
    (tmp_path / "d-1.0.dist-info").write_text("a file")
    (tmp_path / "entry_points.txt").write_text("[orderflow.services]\nx = y:Z\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "nowhere")])
    assert service_names() == SAGA


def test_a_service_of_the_settings_is_any_that_is_installed(install: Install, tmp_path: Path) -> None:
    install("b", "[orderflow.services]\nshipping = parcels:SERVICE\n")
    given = {
        "ORDERFLOW_SHIPPING_URL": "http://parcels.example",
        "ORDERFLOW_SHIPPING_DATABASE_URL": "postgresql://s@db/p",
    }
    settings = Settings.load(environ=given, home=tmp_path)
    assert settings.service_url("shipping") == "http://parcels.example"
    assert settings.service_port("shipping") == 8005
    assert settings.service_database_url("shipping") == "postgresql://s@db/p"
    assert not settings.embedded
    names = [name for name in settings.meanings() if name.startswith("shipping")]
    every = {
        "database_password",
        "database_url",
        "kafka_password",
        "kafka_username",
        "ops_port",
        "ops_url",
        "port",
        "url",
    }
    assert set(names) == {f"shipping_{name}" for name in every}
    assert set(settings.meanings()) == set(settings.shown()) == set(settings.sources)


@pytest.mark.parametrize(
    ("entry_points", "sentence"),
    [
        (
            "order = mine:SERVICE",
            "two services are called order: orderflow.services.order.service:SERVICE and mine:SERVICE",
        ),
        ("bank = mine:SERVICE", "mine:SERVICE cannot be a service called 'bank'"),
        ("Ship-ping = mine:SERVICE", "mine:SERVICE cannot be a service called 'Ship-ping'"),
    ],
)
def test_a_name_that_is_taken_or_that_no_setting_can_have_is_refused(
    entry_points: str, sentence: str, install: Install
) -> None:
    install("mine", f"[orderflow.services]\n{entry_points}\n")
    with pytest.raises(RegistryError, match=sentence):
        service_names()


def test_two_distributions_with_one_name_are_both_named(install: Install) -> None:
    install("a", "[orderflow.services]\nshipping = a:SERVICE\n")
    install("b", "[orderflow.services]\nshipping = b:SERVICE\n")
    with pytest.raises(RegistryError, match="two services are called shipping: a:SERVICE and b:SERVICE"):
        service_names()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("SERVICE = 3", "parcels_1:SERVICE is of the type int, not a Service of this name"),
        (
            "from orderflow.services.order.service import SERVICE",
            "parcels_2:SERVICE is the service order, not a Service of",
        ),
        ("1 / 0", "cannot be loaded from parcels_3:SERVICE: ZeroDivisionError"),
        ("", "cannot be loaded from parcels_4:SERVICE: AttributeError"),
        (
            (
                "from orderflow import *\nfrom orderflow.events import OrderPlaced\n"
                "@handles(OrderPlaced)\ndef place(rows, event): return Decision()\n"
                "SERVICE = Service(name='shipping', catalogue=Catalogue(()), subscriptions=(), publishes=(), "
                "handlers=handlers(place))  # parcels_5:SERVICE"
            ),
            "shipping handles OrderPlaced, but its catalogue lacks it: add it there",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_sentence(
    code: str, sentence: str, install: Install, tmp_path: Path
) -> None:
    module = f"{code} {sentence}".partition(":SERVICE")[0].rpartition(" ")[2]
    (tmp_path / f"{module}.py").write_text(f"{code}\n", encoding="utf-8")
    install("parcels", f"[orderflow.services]\nshipping = {module}:SERVICE\n")
    with pytest.raises(RegistryError, match=sentence):
        service_of("shipping")
    with pytest.raises(KeyError):
        service_of("mail")

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orderflow.local.control import erase, require_erasable
from orderflow.local.errors import LocalError
from orderflow.local.home import EventLog, Home
from orderflow.settings import Settings


def settings_of(home: Path) -> Settings:
    return Settings.load(environ={}, home=home)


def test_a_missing_and_an_empty_folder_become_homes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o755)
    for name in ("missing/deep", "empty"):
        assert Home.open(tmp_path / name).exists()
        assert Home.open(tmp_path / name).exists()
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o755


def test_a_folder_with_settings_only_is_a_fine_home(tmp_path: Path) -> None:
    (tmp_path / "orderflow.toml").write_text("")
    assert Home.open(tmp_path).exists()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(LocalError, match="is not a home of Orderflow: it holds letters"):
        Home.open(tmp_path)
    with pytest.raises(LocalError, match="nothing was deleted"):
        require_erasable(settings_of(tmp_path))


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="is a file"):
        Home.open(tmp_path / "file")


def test_a_home_of_a_later_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home.json").write_text('{"format": 2}')
    with pytest.raises(LocalError, match="made by another release"):
        Home.open(tmp_path)


def test_a_damaged_marker_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "home.json").write_text("{")
    with pytest.raises(LocalError, match=r"home\.json cannot be read"):
        Home.open(tmp_path)


@pytest.mark.parametrize("event_log", [EventLog("postgres"), EventLog("kafka"), EventLog("kafka", "broker:9092")])
def test_a_home_remembers_what_carries_its_events(tmp_path: Path, event_log: EventLog) -> None:
    assert Home.open(tmp_path).event_log() is None
    Home(tmp_path).remember_event_log(event_log)
    assert Home.open(tmp_path).event_log() == event_log


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    assert not home.is_locked()
    with home.lock():
        assert Home(tmp_path).is_locked()
        with pytest.raises(LocalError, match=r"already running on"), Home(tmp_path).lock():
            pass
        with pytest.raises(LocalError, match=f"stop it first: orderflow down --home {tmp_path}"):
            require_erasable(settings_of(tmp_path))
    assert not home.is_locked()


def test_erasing_leaves_settings_and_takes_everything_else(tmp_path: Path) -> None:
    home = Home.open(tmp_path)
    (tmp_path / "orderflow.toml").write_text("")
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    assert require_erasable(settings_of(tmp_path))
    erase(home)
    assert [entry.name for entry in tmp_path.iterdir()] == ["orderflow.toml"]
    assert Home.open(tmp_path).exists()


def test_erasing_follows_no_link_out_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("")
    home = Home.open(tmp_path / "home")
    (home.path / "link").symlink_to(tmp_path / "elsewhere")
    erase(home)
    assert (tmp_path / "elsewhere" / "kept").exists()

"""Make the virtual environment `.venv` of this project where it is not up to date, then run something in it.

    python bootstrap.py [--dev] [ARGUMENTS OF PYTHON...]

For example `python bootstrap.py -m orderflow up`. Only the standard library; needs Python 3.11 or later.
`--dev` installs what the tests need as well. Without arguments it only prepares.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
VENV = PROJECT / ".venv"
STAMP = VENV / "orderflow-stamp.json"
LOCK = "requirements.lock"
DEV_LOCK = "requirements-dev.lock"
PYTHON_NEEDED = (3, 11)


class BootstrapError(Exception):
    """Why there is no environment, in one sentence."""


def main(arguments: list[str]) -> int:
    dev = arguments[:1] == ["--dev"]
    try:
        with _alone():
            _prepare(DEV_LOCK if dev else LOCK)
    except (BootstrapError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    rest = arguments[1:] if dev else arguments
    return _run(rest) if rest else 0


def _prepare(lock: str) -> None:
    if sys.version_info < PYTHON_NEEDED:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise BootstrapError(f"Python 3.11 or later is needed; this is {found}")
    if _is_up_to_date(lock):
        return
    _make_venv()
    _say("Installing the locked dependencies (the first time this may take a minute)")
    _pip("-r", str(PROJECT / lock), "--require-hashes")
    _pip("--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    STAMP.write_text(json.dumps({**_state(), "installed": lock}, indent=1), encoding="utf-8")


def _is_up_to_date(lock: str) -> bool:
    stamp = _read_stamp()
    installed = stamp.get("installed")
    return installed in {lock, DEV_LOCK} and stamp == {**_state(), "installed": installed}


def _state() -> dict[str, str]:
    """What an environment depends on. A changed file, place or Python makes it out of date."""
    digests = {
        name: hashlib.sha256((PROJECT / name).read_bytes()).hexdigest() for name in ("pyproject.toml", LOCK, DEV_LOCK)
    }
    return {**digests, "project": str(PROJECT), "python": sys.version, "base": sys.base_prefix}


def _read_stamp() -> dict[str, str]:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and _venv_python().exists() else {}


def _make_venv() -> None:
    """Made anew when it is ours and stands elsewhere or on another Python; else completed."""
    before, now = _read_stamp(), _state()
    moved = bool(before) and any(before.get(name) != now[name] for name in ("project", "python", "base"))
    if _venv_python().exists() and not moved:
        return
    _say(f"Making the virtual environment {VENV}")
    command = [sys.executable, "-m", "venv", *(["--clear"] if moved else []), str(VENV)]
    done = subprocess.run(  # noqa: S603 - the command is ours
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        hint = " (on Debian or Ubuntu: apt install python3-venv)" if "ensurepip" in done.stdout else ""
        last = done.stdout.strip().splitlines()[-1:] or ["it said nothing"]
        raise BootstrapError(f"cannot make a virtual environment in {VENV}{hint}: {last[0]}")


def _pip(*options: str) -> None:
    pip = [str(_venv_python()), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
    done = subprocess.run([*pip, *options], check=False)  # noqa: S603 - the command is ours
    if done.returncode != 0:
        raise BootstrapError("pip could not install the dependencies; what it said stands above")


def _run(arguments: list[str]) -> int:
    command = [str(_venv_python()), *arguments]
    if os.name == "posix":
        # The same process: signals reach it without our help.
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    with subprocess.Popen(command) as child:  # noqa: S603 - the command is ours
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return child.wait()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two starts at once must not install into one environment side by side."""
    if os.name != "posix":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(PROJECT, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


def _venv_python() -> Path:
    scheme = "nt" if os.name == "nt" else "posix_prefix"
    scripts = sysconfig.get_path("scripts", scheme, vars={"base": str(VENV)})
    return Path(scripts) / ("python.exe" if os.name == "nt" else "python")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

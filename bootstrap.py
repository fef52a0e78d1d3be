"""Make the virtual environment `.venv` of this project where it is not up to date, then run something in it.

    python bootstrap.py [--dev | --lowest] [ARGUMENTS OF PYTHON...]

For example `python bootstrap.py -m orderflow up`. Only the standard library; needs Python 3.11 or later.
`--dev` installs what the tests need as well. `--lowest` does so in `.venv-lowest`, with the lowest version that
pyproject.toml allows of each package named there. Without arguments it only prepares.
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
LOCK = "requirements.lock"
DEV_LOCK = "requirements-dev.lock"
LOWEST_LOCK = "requirements-lowest.lock"
LOCKS = {"--dev": DEV_LOCK, "--lowest": LOWEST_LOCK}
PYTHON_NEEDED = (3, 11)


class BootstrapError(Exception):
    """Why there is no environment, in one sentence."""


def main(arguments: list[str]) -> int:
    option = arguments[0] if arguments and arguments[0] in LOCKS else ""
    lock = LOCKS.get(option, LOCK)
    venv = PROJECT / (".venv-lowest" if lock == LOWEST_LOCK else ".venv")
    try:
        with _alone():
            _prepare(venv, lock)
    except (BootstrapError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    rest = arguments[1:] if option else arguments
    return _run(venv, rest) if rest else 0


def _prepare(venv: Path, lock: str) -> None:
    if sys.version_info < PYTHON_NEEDED:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise BootstrapError(f"Python 3.11 or later is needed; this is {found}")
    if _is_up_to_date(venv, lock):
        return
    _make_venv(venv)
    _say("Installing the locked dependencies (the first time this may take a minute)")
    _pip(venv, "-r", str(PROJECT / lock), "--require-hashes")
    _pip(venv, "--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    _stamp(venv).write_text(json.dumps({**_state(), "installed": lock}, indent=1), encoding="utf-8")


def _is_up_to_date(venv: Path, lock: str) -> bool:
    stamp = _read_stamp(venv)
    installed = stamp.get("installed")
    return installed in {lock, DEV_LOCK} and stamp == {**_state(), "installed": installed}


def _state() -> dict[str, str]:
    """What an environment depends on. A changed file, place or Python makes it out of date."""
    digests = {
        name: hashlib.sha256((PROJECT / name).read_bytes()).hexdigest()
        for name in ("pyproject.toml", LOCK, *LOCKS.values())
    }
    return {**digests, "project": str(PROJECT), "python": sys.version, "base": sys.base_prefix}


def _stamp(venv: Path) -> Path:
    return venv / "orderflow-stamp.json"


def _read_stamp(venv: Path) -> dict[str, str]:
    try:
        found = json.loads(_stamp(venv).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and _python_of(venv).exists() else {}


def _make_venv(venv: Path) -> None:
    """Made anew when it is ours and stands elsewhere or on another Python; else completed."""
    before, now = _read_stamp(venv), _state()
    moved = bool(before) and any(before.get(name) != now[name] for name in ("project", "python", "base"))
    if _python_of(venv).exists() and not moved:
        return
    _say(f"Making the virtual environment {venv}")
    command = [sys.executable, "-m", "venv", *(["--clear"] if moved else []), str(venv)]
    done = subprocess.run(  # noqa: S603 - the command is ours
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        hint = " (on Debian or Ubuntu: apt install python3-venv)" if "ensurepip" in done.stdout else ""
        last = done.stdout.strip().splitlines()[-1:] or ["it said nothing"]
        raise BootstrapError(f"cannot make a virtual environment in {venv}{hint}: {last[0]}")


def _pip(venv: Path, *options: str) -> None:
    pip = [str(_python_of(venv)), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
    done = subprocess.run([*pip, *options], check=False)  # noqa: S603 - the command is ours
    if done.returncode != 0:
        raise BootstrapError("pip could not install the dependencies; what it said stands above")


def _run(venv: Path, arguments: list[str]) -> int:
    command = [str(_python_of(venv)), *arguments]
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


def _python_of(venv: Path) -> Path:
    scheme = "nt" if os.name == "nt" else "posix_prefix"
    scripts = sysconfig.get_path("scripts", scheme, vars={"base": str(venv)})
    return Path(scripts) / ("python.exe" if os.name == "nt" else "python")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

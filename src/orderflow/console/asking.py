"""What the page asks the services: the one place that knows where they are, and as whom it acts."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from orderflow.console.sessions import ACTS_AS, SignedIn
from orderflow.core.conversion import converted
from orderflow.http.gate import is_loopback
from orderflow.http.operators.asking import OPERATOR
from orderflow.http.operators.operators import CallerShown
from orderflow.http.operators.proposals import ACCEPTED
from orderflow.local import state
from orderflow.local.errors import LocalError
from orderflow.local.home import Home, own_token, person_here
from orderflow.local.state import RunState
from orderflow.registry import service_names
from orderflow.settings import Settings, SettingsError

T = TypeVar("T")
U = TypeVar("U")

TIMEOUT_S = 5.0
ACT_TIMEOUT_S = 30.0
REHEARSE_TIMEOUT_S = 120.0
PROPOSED = (
    "This takes two approvers, so it is only proposed. It is done when another approver requests the same. "
    "See it with: orderflow ops proposals"
)
UNREADABLE = "The {name} service gave an answer that this release cannot read. Run both from the same release"


class AskError(Exception):
    """A question that was not answered. Its text says what was wrong and what to do. `status` 0: nobody answered;
    `silent`: somebody was there, and said nothing in time.
    """

    def __init__(self, message: str, status: int = 0, *, silent: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Replies(Generic[T]):
    """By service: what it answered, or the sentence why it did not."""

    found: Mapping[str, T]
    away: Mapping[str, str]


class Services:
    """The services of one home. `places` gives its settings with the addresses of what runs there; it is asked again
    when `orderflow up` has noted something new.
    """

    def __init__(self, home: Path, places: Callable[[], Settings]) -> None:
        self._home = Home(home)
        self._places = places
        self._settings: Settings | None = None
        self._noted_at = -1
        self._who = person_here()
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    @property
    def home(self) -> Path:
        return self._home.path

    @property
    def names(self) -> Sequence[str]:
        return service_names()

    @property
    def settings(self) -> Settings:
        """With the addresses of what runs. Raises AskError: they cannot be read."""
        try:
            noted_at = self._home.state.stat().st_mtime_ns
        except OSError:
            noted_at = 0
        if self._settings is None or noted_at != self._noted_at:
            try:
                self._settings, self._noted_at = self._places(), noted_at
            except (SettingsError, LocalError) as error:
                raise AskError(f"The settings of {self._home.path} cannot be read: {error}") from error
        return self._settings

    def state(self) -> RunState | None:
        """What the supervisor of this home has noted, if it is alive."""
        return state.running(self._home)

    def public_url(self, name: str) -> str:
        """Where a service is reached by its customers."""
        return self.settings.service_url(name)

    def operators_url(self, name: str) -> str:
        """Where a service is reached by operators: `/health`, `/metrics`, `/ops`."""
        return self.settings.service_ops_url(name)

    def process_urls(self, name: str) -> Sequence[str]:
        """Where operators reach each process of a service: what one has counted, the others do not know."""
        found = self.state()
        ours = [] if found is None else [each for each in found.processes if each.kind == "service"]
        addresses = [each.ops_address for each in ours if each.name == name or each.name.startswith(f"{name}-")]
        return addresses or [self.operators_url(name)]

    def credentials(self, url: str) -> Mapping[str, str]:
        """As whom the page looks: by the token of the settings, or, on this machine alone, by the home's."""
        is_here = is_loopback(urlsplit(url).hostname or "")
        token = self.own_token() if is_here or self.settings.token is not None else None
        return {} if token is None else _shown(token)

    async def get(self, name: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a customers' path. Raises AskError."""
        return _json(name, await self._ask(name, "GET", self.public_url(name) + path, parameters=parameters))

    async def place(self, name: str, path: str, body: object, headers: Mapping[str, str]) -> Any:
        """POST to a customers' path; the answer's JSON. Raises AskError."""
        url = self.public_url(name) + path
        return _json(name, await self._ask(name, "POST", url, body=body, headers=headers))

    async def read(self, kind: type[T], name: str, path: str, parameters: Mapping[str, Any] | None = None) -> T:
        """The answer of an operators' path as the class that the service sends. Raises AskError."""
        return decoded(kind, name, await self.inspect(name, path, parameters))

    async def inspect(self, name: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an operators' path; also of one that says that it is not ready. Raises AskError."""
        url = self.operators_url(name) + path
        good = (503,) if path == "/health/ready" else ()
        return _json(name, await self._ask(name, "GET", url, parameters=parameters, good=good))

    async def scrape(self, name: str, address: str) -> str:
        """The text of `/metrics` of one process. Raises AskError."""
        return (await self._ask(name, "GET", f"{address}/metrics")).text

    async def act(
        self, name: str, method: str, path: str, body: object = None, *, timeout_s: float = ACT_TIMEOUT_S
    ) -> Any:
        """Have a service change something, or try it, as who has signed in; the answer's JSON.

        Raises AskError, also where nobody has signed in, and where it was only proposed.
        """
        who = ACTS_AS.get()
        if who is None:
            raise AskError("Sign in to do this.", 401)
        url = self.operators_url(name) + path
        headers = _shown(who.bearer)
        if who.bearer == self.own_token():
            headers[OPERATOR] = self._who
        reply = await self._ask(name, method, url, body=body, headers=headers, timeout_s=timeout_s)
        if reply.status_code == ACCEPTED:
            raise AskError(PROPOSED, ACCEPTED)
        return _json(name, reply)

    def own_token(self) -> str | None:
        """That of the settings, else the home's. Raises AskError: the settings cannot be read."""
        return own_token(self.settings)

    async def who(self, bearer: str) -> SignedIn:
        """Whose token this is, by the first service that tells. Raises AskError: none knows it, or none answers."""
        failed = AskError("No service is configured that could check this token")
        for name in self.names:
            try:
                url = f"{self.operators_url(name)}/ops/caller"
                reply = await self._ask(name, "GET", url, headers=_shown(bearer))
            except AskError as error:
                if error.status:
                    raise
                failed = error
            else:
                told = decoded(CallerShown, name, _json(name, reply))
                return SignedIn(bearer, told.name, told.roles)
        raise failed

    async def everyone(
        self, question: Callable[[str], Awaitable[U]], names: Iterable[str] | None = None
    ) -> Replies[U]:
        """Ask these services, or all, side by side."""
        asked = list(self.names if names is None else names)
        replies = await asyncio.gather(*(question(name) for name in asked), return_exceptions=True)
        found: dict[str, U] = {}
        away: dict[str, str] = {}
        for name, reply in zip(asked, replies, strict=True):
            if isinstance(reply, AskError):
                away[name] = str(reply)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                found[name] = reply
        return Replies(found, away)

    async def _ask(
        self,
        name: str,
        method: str,
        url: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        good: Sequence[int] = (),
    ) -> httpx2.Response:
        given = {key: value for key, value in (parameters or {}).items() if value not in {None, ""}}
        try:
            reply = await self._http(url).request(
                method,
                url,
                params=given or None,
                content=None if body is None else msgspec.json.encode(body),
                headers={
                    **self.credentials(url),
                    **(headers or {}),
                    **({} if body is None else {"content-type": "application/json"}),
                },
                timeout=timeout_s,
            )
        except httpx2.TimeoutException:
            raise AskError(
                f"The {name} service did not answer within {timeout_s:g} s. Look at its log: orderflow logs {name}",
                silent=True,
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError):
            raise AskError(
                f"The {name} service does not answer. If `orderflow up` is running, it restarts the service; "
                "otherwise start it with: orderflow up"
            ) from None
        if reply.is_success or reply.status_code in good:
            return reply
        raise AskError(_refusal(name, reply), reply.status_code)

    def _http(self, url: str) -> httpx2.AsyncClient:
        if self._client is None:
            # Certificates of all authorities take longer to read than any answer: only where they are needed.
            trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if url.startswith("https:"):
                self._trust(trusted)
            self._client = httpx2.AsyncClient(trust_env=False, verify=trusted)
        return self._client

    def _trust(self, context: ssl.SSLContext) -> None:
        """As the command line does. Raises AskError: a file cannot be used."""
        settings = self.settings
        try:
            if settings.tls_ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(settings.tls_ca_file)
            if settings.tls_client_certificate_file is not None:
                context.load_cert_chain(settings.tls_client_certificate_file, settings.tls_client_key_file)
        except OSError as error:
            raise AskError(f"No TLS: {error}. Check ORDERFLOW_TLS_CA_FILE and the other TLS settings") from error


def decoded(kind: type[T], name: str, answer: object) -> T:
    """Raises AskError: the answer is not of this form."""
    try:
        return converted(answer, kind)
    except msgspec.ValidationError as error:
        raise AskError(UNREADABLE.format(name=name)) from error


def _shown(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def segment(text: object) -> str:
    """One segment of a path."""
    return quote(str(text), safe="")


def _json(name: str, reply: httpx2.Response) -> Any:
    try:
        return reply.json()
    except ValueError as error:
        raise AskError(UNREADABLE.format(name=name)) from error


def _refusal(name: str, reply: httpx2.Response) -> str:
    """What a problem document (RFC 9457) says, with every wrong field."""
    try:
        problem = json.loads(reply.content)
        said = str(problem.get("detail") or problem["title"]).rstrip(".")
        errors = [each for each in problem.get("errors") or [] if isinstance(each, dict)]
    except (ValueError, KeyError, AttributeError):
        return f"What answers for the {name} service is not Orderflow (status {reply.status_code})"
    fields = [f"{each.get('pointer') or each.get('parameter')}: {each.get('detail')}" for each in errors]
    return "; ".join([said, *(field for field in fields if field not in said)])

"""Beyond loopback there is no anonymous door: what has to be there before a service listens where others reach it."""

from __future__ import annotations

import asyncio

from orderflow.access.tokens import TokensFile, TokensFileError
from orderflow.http.gate import is_loopback
from orderflow.http.tls import CertificateError, Certificates, TlsFiles
from orderflow.observability.logs import Level, LogWriter
from orderflow.settings import Settings, SettingsError

INSIST_EVERY_S = 60.0
NO_TLS = "there is no TLS (set ORDERFLOW_TLS_CERTIFICATE_FILE and ORDERFLOW_TLS_KEY_FILE)"
NO_TOKENS = "there is no token (create one with `orderflow token create`, or set ORDERFLOW_OIDC_ISSUER)"
SAID_ALOUD = "ORDERFLOW_INSECURE=yes would let it listen anyway"


def require_closed(settings: Settings) -> str:
    """What is open to others because somebody said that it may be (`insecure`), in a sentence; empty when nothing is.

    Raises SettingsError: nobody said so, and without tokens and TLS no service listens where others reach it.
    """
    where = _beyond_loopback(settings)
    if not where:
        return ""
    lacks = _lacks(settings)
    if settings.insecure:
        lacking = f", and {' and '.join(lacks)}" if lacks else ""
        anonymous = "anyone who can reach it may read and place orders without a token" if settings.anonymous else ""
        return f"{where}, and ORDERFLOW_INSECURE=yes: {anonymous or 'not for production'}{lacking}"
    if lacks:
        raise SettingsError(f"{where}, but {' and '.join(lacks)}. {SAID_ALOUD}, and warn for as long as it runs")
    return ""


def certificates_of(settings: Settings, *, for_operators: bool) -> Certificates | None:
    """Of a door; None where it speaks plain HTTP. Operators have to show one of their own, where the settings say so.

    Raises SettingsError.
    """
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None and key is None:
        if settings.tls_client_ca_file is not None:
            raise SettingsError(f"ORDERFLOW_TLS_CLIENT_CA_FILE has no effect, for {NO_TLS}")
        return None
    if certificate is None or key is None:
        raise SettingsError("ORDERFLOW_TLS_CERTIFICATE_FILE and ORDERFLOW_TLS_KEY_FILE go together; set both")
    client_ca = settings.tls_client_ca_file if for_operators else None
    try:
        return Certificates(TlsFiles(certificate=certificate, key=key, client_ca=client_ca))
    except CertificateError as error:
        raise SettingsError(f"no TLS: {error}") from error


async def insist(log: LogWriter, warning: str) -> None:
    """Say it, if there is something to say, at once and again for ever."""
    while warning:
        log.write(Level.WARNING, "insecure", {"detail": warning})
        await asyncio.sleep(INSIST_EVERY_S)


def _beyond_loopback(settings: Settings) -> str:
    hosts = {"ORDERFLOW_HOST": settings.host, "ORDERFLOW_OPS_HOST": settings.ops_host}
    open_ones = [f"{name} is {host}" for name, host in hosts.items() if not is_loopback(host)]
    return f"{' and '.join(open_ones)}, which other machines can reach" if open_ones else ""


def _lacks(settings: Settings) -> list[str]:
    lacks = [] if settings.tls_certificate_file is not None else [NO_TLS]
    try:
        has_tokens = settings.oidc_issuer is not None or TokensFile(settings.tokens_path).has_good()
    except TokensFileError as error:
        raise SettingsError(str(error)) from error
    return lacks if has_tokens else [*lacks, NO_TOKENS]

"""A certificate authority of one home: its certificates prove that what answers on this machine is this home's."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orderflow.local.errors import LocalError
from orderflow.local.home import make_folder

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397
RENEWED_DAYS_BEFORE = 60
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def utc_now() -> dt.datetime:
    """This machine's time."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM files, mode 0600. `both` holds the key and the certificate, as Kafka wants them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Its folder (mode 0700) holds its key, its certificate `ca.pem`, and what it has issued. `now` is in UTC."""

    def __init__(self, folder: Path, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._now = now
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"

    def issue(self, name: str, hosts: Sequence[str] = THIS_MACHINE) -> Issued:
        """A certificate for `name` at `hosts`, for servers and clients; a new one when it ends in 60 days or less.

        Makes the authority at first use. Raises LocalError.
        """
        issued = Issued(*(self._folder / f"{name}{suffix}" for suffix in (".pem", ".key", ".both.pem")))
        try:
            make_folder(self._folder)
            if not self.certificate.is_file() or not self._key.is_file():
                self._make_own()
            there = all(path.is_file() for path in (issued.certificate, issued.key, issued.both))
            if not there or self._ends_soon(issued.certificate):
                self._make(name, hosts, issued)
        except (OSError, ValueError, TypeError) as error:
            raise LocalError(f"the certificates in {self._folder} cannot be read or made: {error}") from error
        return issued

    def _make_own(self) -> None:
        key = _new_key()
        builder = self._builder("Orderflow, the authority of one home", AUTHORITY_DAYS).public_key(key.public_key())
        builder = builder.issuer_name(_name("Orderflow, the authority of one home"))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        made = builder.sign(key, SHA256())
        _write(self._key, _private(key))
        _write(self.certificate, _public(made))

    def _make(self, name: str, hosts: Sequence[str], issued: Issued) -> None:
        authority = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        signer = load_pem_private_key(self._key.read_bytes(), None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self._key} holds no key of an elliptic curve")
        key = _new_key()
        builder = self._builder(name, CERTIFICATE_DAYS).public_key(key.public_key()).issuer_name(authority.subject)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectAlternativeName([_host(host) for host in hosts]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        made = builder.sign(signer, SHA256())
        _write(issued.key, _private(key))
        _write(issued.certificate, _public(made))
        _write(issued.both, _private(key) + _public(made))

    def _ends_soon(self, certificate: Path) -> bool:
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        return ends - self._now() < dt.timedelta(days=RENEWED_DAYS_BEFORE)

    def _builder(self, name: str, days: int) -> x509.CertificateBuilder:
        # A clock that is a little behind must not refuse what was made a moment ago.
        begins = self._now() - dt.timedelta(hours=1)
        builder = x509.CertificateBuilder().subject_name(_name(name)).serial_number(x509.random_serial_number())
        return builder.not_valid_before(begins).not_valid_after(begins + dt.timedelta(days=days))


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _write(path: Path, content: bytes) -> None:
    """Readable for its owner alone; whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)

"""How the name of a customer becomes a pseudonym, and back: AES-SIV (RFC 5297) under a key of that customer.

AES-SIV is deterministic: the same name under the same key is the same text, so that it can be compared and looked for
as the name could. Whoever has the text and not the key learns how long the name is, and nothing else of it.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX = "enc1."
"""What begins so is a pseudonym of this form; whatever else is a name in clear text, as earlier releases wrote it."""

PSEUDONYM_MAX = 100
"""What an event takes for a customer, in every release that may read it."""

MASTER_SIZE = 32
ID_SIZE = 12
_KEY_SIZE = 64
_TAG_SIZE = 16
_ID_TEXT = 16


class WrongMasterKeyError(Exception):
    """A key was wrapped under another master key than this one."""


class WrappedKey(NamedTuple):
    """A customer's key as it is kept: found by `lookup`, named by `id`. `name` is what does not fit into a pseudonym,
    encrypted as the pseudonym is.
    """

    lookup: bytes
    id: bytes
    wrapped: bytes
    name: bytes | None


class MasterKey:
    """Wraps and finds the keys of all customers. Without it the keys database says nothing."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != MASTER_SIZE:
            raise ValueError(f"a master key has {MASTER_SIZE} bytes, and this one has {len(secret)}")
        self._search = _derived(secret, b"search", 32)
        self._wrap = AESSIV(_derived(secret, b"wrap", _KEY_SIZE))
        self.fingerprint = _derived(secret, b"fingerprint", 16)
        """Tells two master keys apart, and gives nothing of them away."""

    def lookup(self, name: str) -> bytes:
        """By what the key of the customer is found: a hash that nobody without this key can make."""
        return hmac.digest(self._search, name.encode(), "sha256")

    def new_key(self, name: str) -> WrappedKey:
        """A key by chance for the customer."""
        key_id, key = secrets.token_bytes(ID_SIZE), secrets.token_bytes(_KEY_SIZE)
        sealed = _seal(key, key_id, name)
        long = None if _fits(sealed) else sealed
        return WrappedKey(self.lookup(name), key_id, self._wrap.encrypt(key, [b"key", key_id]), long)

    def pseudonym(self, kept: WrappedKey, name: str) -> str:
        """What stands for the name wherever it is stored or sent. Raises WrongMasterKeyError."""
        sealed = _seal(self._unwrapped(kept), kept.id, name)
        body = sealed if _fits(sealed) else sealed[:_TAG_SIZE]
        return f"{PREFIX}{_text(kept.id)}.{_text(body)}"

    def name(self, kept: WrappedKey, pseudonym: str) -> str:
        """The name. Raises WrongMasterKeyError; ValueError: the text was not made under this key."""
        body = _bytes(pseudonym[len(PREFIX) + _ID_TEXT + 1 :])
        sealed = kept.name if len(body) == _TAG_SIZE and kept.name is not None else body
        if sealed[:_TAG_SIZE] != body[:_TAG_SIZE]:
            raise ValueError("the pseudonym was not made under this key")
        try:
            return AESSIV(self._unwrapped(kept)).decrypt(sealed, [b"name", kept.id]).decode()
        except InvalidTag as error:
            raise ValueError("the pseudonym was not made under this key") from error

    def _unwrapped(self, kept: WrappedKey) -> bytes:
        try:
            return self._wrap.decrypt(kept.wrapped, [b"key", kept.id])
        except InvalidTag as error:
            raise WrongMasterKeyError from error


def key_id_of(text: str) -> bytes | None:
    """The id of the key that a pseudonym was made under; None: it is none, but clear text."""
    id_text, dot, _ = text.removeprefix(PREFIX).partition(".")
    if not text.startswith(PREFIX) or len(id_text) != _ID_TEXT or not dot:
        return None
    try:
        return _bytes(id_text)
    except ValueError:
        return None


def _seal(key: bytes, key_id: bytes, name: str) -> bytes:
    return AESSIV(key).encrypt(name.encode(), [b"name", key_id])


def _fits(sealed: bytes) -> bool:
    """Whether a pseudonym has room for the whole ciphertext; else for its synthetic IV alone."""
    return len(PREFIX) + _ID_TEXT + 1 + (len(sealed) * 4 + 2) // 3 <= PSEUDONYM_MAX


def _derived(secret: bytes, purpose: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, None, b"orderflow customers " + purpose).derive(secret)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""Bundles: what an operator hands to devices, signed so that nobody on the way can change it.

A bundle tunes; what a device's owner has set on privacy, consent and money it cannot loosen (the
device sees to that). Its signature is Ed25519 (RFC 8032) over the very bytes that travel, by a key
whose public half each device has pinned. Its sequence rises with every bundle, roll-backs
included, so that an older one that is played again is known as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from isthmus.core.errors import ConfigError, IsthmusError
from isthmus.core.money import Price

FORMAT: Final = 1
"""The newest format that is read here."""
MAX_BYTES: Final = 4 << 20
"""Longest payload; a router file has well under a megabyte."""
_CONTEXT: Final = b"isthmus bundle 1\0"
"""Goes before the payload when it is signed: the key can be used for nothing else by mistake."""
_END: Final = b"-----END PUBLIC KEY-----"


class BundleState(StrEnum):
    """What became of a bundle on a device."""

    IN_USE = "in_use"
    BAD_SIGNATURE = "bad_signature"
    TOO_NEW = "too_new"
    REPLAYED = "replayed"
    BROKEN = "broken"
    WORSE = "worse"
    CRASHED = "crashed"


class BundleRefused(IsthmusError):
    """A bundle is not taken. `state` says why; `field` names the part that is to blame."""

    kind = "bundle_refused"

    def __init__(
        self, message: str, state: BundleState, *, field: str | None = None, sequence: int = 0
    ) -> None:
        super().__init__(message, field=field)
        self.state = state
        self.sequence = sequence
        """Of the bundle; 0 where nobody vouches for it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an operator hands to devices. A part that is not there leaves the device's own."""

    sequence: int
    version: str
    """The operator's name for it."""
    created_unix_s: int = 0
    rolls_back_to: int | None = None
    """The sequence of the bundle whose content this one brings back."""
    policy_toml: str = ""
    """A settings file of the agent's with the table `router` alone."""
    price: Price | None = None
    router_file: bytes = b""
    kernel_choices_json: str = ""


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A bundle's bytes, and the signature over them."""

    payload: bytes
    signature: bytes


class OperatorKey:
    """Signs bundles. It stays with the operator: no gateway needs it, and no device."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def new(cls) -> OperatorKey:
        """A key that nobody else has."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> OperatorKey:
        """The key of an unencrypted PKCS #8 file. Raises `ConfigError`."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(
                "is no Ed25519 private key in PEM: isthmus cloud fleet key makes one", field="key"
            )
        return cls(key)

    def pem(self) -> bytes:
        """The private half."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> bytes:
        """What devices pin."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, payload: bytes) -> SignedBundle:
        """`payload` with its signature."""
        return SignedBundle(payload, self._key.sign(_CONTEXT + payload))


class PinnedKeys:
    """The operator's keys that a device trusts: several while one takes the other's place."""

    def __init__(self, keys: Sequence[Ed25519PublicKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def from_pem(cls, pem: bytes) -> PinnedKeys:
        """The public keys of a file, one after the other. Raises `ConfigError`."""
        keys = []
        for block in pem.split(_END)[:-1]:
            try:
                key = load_pem_public_key(block.strip() + b"\n" + _END + b"\n")
            except ValueError:
                key = None
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigError("holds a key that is not Ed25519", field="fleet.key_file")
            keys.append(key)
        if not keys:
            raise ConfigError("holds no public key in PEM", field="fleet.key_file")
        return cls(keys)

    def check(self, bundle: SignedBundle) -> None:
        """Raise `BundleRefused` unless one of the keys has signed it, and it is not too long."""
        if len(bundle.payload) > MAX_BYTES:
            raise BundleRefused(
                f"the bundle is longer than {MAX_BYTES >> 20} MiB",
                BundleState.BROKEN,
                field="payload",
            )
        for key in self._keys:
            try:
                key.verify(bundle.signature, _CONTEXT + bundle.payload)
            except InvalidSignature:
                continue
            return
        raise BundleRefused(
            "none of the pinned keys has signed this bundle, or it was changed since",
            BundleState.BAD_SIGNATURE,
            field="signature",
        )

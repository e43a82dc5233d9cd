"""Receipts: what came of each request, signed with the device's key and chained to the one before.

A receipt is also the row of an audit: time, route, policy, counts of labels, how many bytes left
with their hash, and a keyed hash of what was asked. There is no text in it. Each entry holds the
hash of the entry before, and a signed head holds the hash of the last one: a receipt that was
altered, left out, put elsewhere or cut off at the end shows. What no chain can show by itself is
that all of it was put back to an earlier day; whoever kept a later receipt can.

Signatures are Ed25519 (RFC 8032) over canonical JSON: keys sorted, no spaces, ASCII.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

START = ""
"""What the first entry has in place of a hash."""


class Malformed(ValueError):
    """What was read is no receipt, or no key."""


Treatment = Literal["stayed", "redacted", "allowed"]
"""What became of the values of a label."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that left the device."""

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, message: bytes) -> Sent:
        """What is told of `message`."""
        return cls(len(message), hashlib.sha256(message).hexdigest())


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of one request."""

    request_id: str
    at_unix_s: float
    made_by: tuple[str, ...]
    """The tiers that gave the answer, in order; empty when there was none."""
    status: str
    privacy_class: str
    policy: str
    """The policy that decided: its name and what tells its settings from others."""
    labels: Mapping[str, Mapping[Treatment, int]] = field(default_factory=dict)
    """Counts of what was found, by label and by what became of it."""
    sent: tuple[Sent, ...] = ()
    content_hmac: str = ""
    """`DeviceKey.content_hmac` of what was asked: the device alone can tell what it belongs to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed statement: canonical JSON and the signature of its bytes, in hexadecimal."""

    statement: str
    signature: str

    @property
    def hash(self) -> str:
        """What the next entry holds of this one."""
        return hashlib.sha256(f"{self.statement}\n{self.signature}".encode()).hexdigest()

    def read(self) -> dict[str, Any]:
        """The statement. Raises `Malformed` when it is none."""
        value = json.loads(self.statement)
        if not isinstance(value, dict):
            raise Malformed("a statement must be an object")
        return value

    def json(self) -> dict[str, Any]:
        """For exports and for HTTP."""
        return {"statement": self.read(), "signature": self.signature}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """The reverse of `json`. Raises `Malformed`."""
        statement, signature = value.get("statement"), value.get("signature")
        if not isinstance(statement, dict) or not isinstance(signature, str):
            raise Malformed("an entry has a statement and a signature")
        return cls(_canonical(statement), signature)


class DeviceKey:
    """The key that a device signs with. Never printed."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self._content_key = hmac.digest(raw, b"isthmus: content of requests", "sha256")

    @classmethod
    def new(cls) -> DeviceKey:
        """A key that nobody else has."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> DeviceKey:
        """Raises `Malformed` when `pem` holds no Ed25519 key."""
        try:
            key = load_pem_private_key(pem, password=None)
        except Exception:
            # Whatever the parser says may quote what it read.
            raise Malformed("not a private key in PEM") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Malformed("not an Ed25519 key")
        return cls(key)

    def pem(self) -> bytes:
        """For the file that keeps it."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public(self) -> str:
        """The public half, in hexadecimal."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def content_hmac(self, content: bytes) -> str:
        """A hash of `content` that only this device can make."""
        return hmac.digest(self._content_key, content, "sha256").hex()

    def receipt(self, receipt: Receipt, *, sequence: int, previous: str) -> Entry:
        """The entry of `receipt`, the `sequence`-th from 1, behind the one hashed `previous`."""
        return self._sign({"sequence": sequence, "previous": previous, **asdict(receipt)})

    def head(self, *, count: int, last: str) -> Entry:
        """The statement that the chain has `count` receipts, the last one hashed `last`."""
        return self._sign({"count": count, "last": last})

    def _sign(self, statement: Mapping[str, Any]) -> Entry:
        text = _canonical(statement)
        return Entry(text, self._key.sign(text.encode()).hex())


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at a chain found. Sound when there are no `problems`."""

    receipts: int
    first: int | None
    """The sequence number that it begins with: an export may begin after the first."""
    problems: tuple[str, ...]


def check(receipts: Iterable[Entry], head: Entry | None, public_key: str) -> Checked:
    """Check every signature, the order, and that nothing is missing up to `head`.

    Raises `Malformed` when `public_key` is none.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    except ValueError:
        raise Malformed("a public key is 64 hexadecimal digits") from None
    problems: list[str] = []
    count, first, last = 0, None, None
    expected, previous = None, None
    for count, entry in enumerate(receipts, start=1):
        try:
            statement = entry.read()
            number = int(statement["sequence"])
        except (ValueError, KeyError, TypeError):
            problems.append(f"entry {count} is no receipt")
            continue
        if not _signed(entry, key):
            problems.append(f"receipt {number} was altered, or signed with another key")
        if expected is None:
            first = number
            if number == 1 and statement.get("previous") != START:
                problems.append("receipt 1 names one before it")
        elif number != expected:
            problems.append(f"receipt {expected} is missing: {number} follows {expected - 1}")
        elif statement.get("previous") != previous:
            problems.append(
                f"receipt {number} does not follow the receipt {number - 1} that is here"
            )
        expected, previous, last = number + 1, entry.hash, number
    problems += _head_problems(head, key, last or 0, previous or START)
    return Checked(count, first, tuple(problems))


def _head_problems(
    head: Entry | None, key: Ed25519PublicKey, last: int, last_hash: str
) -> list[str]:
    if head is None:
        return ["the head is missing: nothing says how many receipts there were"]
    if not _signed(head, key):
        return ["the head was altered, or signed with another key"]
    told = head.read()
    if told.get("count") != last:
        return [f"the head tells of {told.get('count')} receipts, the last one here is {last}"]
    if told.get("last") != last_hash:
        return [f"receipt {last} is not the one that the head tells of"]
    return []


def _signed(entry: Entry, key: Ed25519PublicKey) -> bool:
    try:
        key.verify(bytes.fromhex(entry.signature), entry.statement.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

"""An issuer of device tokens for fleets that have none: one folder, no service.

    signing-key.pem   the private key that signs now; it never leaves the folder
    jwks.json         the public keys, for the gateway's `auth.jwks_file`
    devices.json      what was issued, without the tokens
    revoked           who is let in no more, for the gateway's `auth.revoked_file`

Every file is replaced whole: a gateway never reads half of one. Writers wait for each other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.cloud.identity.base import CLASS, NAME, Scope
from isthmus.cloud.identity.files import locked, replace, write_key
from isthmus.cloud.identity.revoked import read_revoked
from isthmus.core.errors import ConfigError, InvalidRequest

ISSUER: Final = "isthmus-enroll"
"""The `iss` of its tokens."""
ALGORITHM: Final = "ES256"

_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was handed out, without the token."""

    tenant: str
    device: str
    device_class: str
    scopes: tuple[str, ...]
    token_id: str
    key_id: str
    issued_unix_s: int
    expires_unix_s: int

    @property
    def name(self) -> str:
        """As in a list of the revoked."""
        return f"{self.tenant}/{self.device}"


class Issuer:
    """Signs tokens with the key in `folder`, which is made with the first one."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.jwks_file = folder / "jwks.json"
        self.revoked_file = folder / "revoked"
        self._key_file = folder / "signing-key.pem"
        self._register = folder / "devices.json"
        self._clock = clock

    def enroll(
        self,
        tenant: str,
        device: str,
        *,
        device_class: str,
        scopes: Iterable[Scope],
        audience: str,
        days: int,
    ) -> tuple[str, Issued]:
        """A token for a device, and what is remembered of it. Raises `InvalidRequest`."""
        check_names(tenant, device, device_class)
        with locked(self.folder):
            if f"{tenant}/{device}" in self.revoked():
                raise InvalidRequest(
                    f"{tenant}/{device} is revoked; remove its line from {self.revoked_file} "
                    "to let it in again, with every token that it still has: revoke those that "
                    "are to stay out by their ids",
                    field="device",
                )
            key = self._key()
            now_s = int(self._clock())
            issued = Issued(
                tenant,
                device,
                device_class,
                tuple(sorted(scope.value for scope in scopes)),
                secrets.token_urlsafe(12),
                key_id_of(key),
                now_s,
                now_s + days * _DAY_S,
            )
            token = jwt.encode(
                {
                    "iss": ISSUER,
                    "aud": audience,
                    "sub": device,
                    "tenant": tenant,
                    "device_class": device_class,
                    "scope": " ".join(issued.scopes),
                    "iat": issued.issued_unix_s,
                    "exp": issued.expires_unix_s,
                    "jti": issued.token_id,
                },
                key,
                ALGORITHM,
                headers={"kid": issued.key_id},
            )
            self._remember([*self.issued(), issued])
            self._publish(key)
        return token, issued

    def issued(self) -> list[Issued]:
        """Everything that was handed out, in order."""
        try:
            rows = json.loads(self._register.read_text())
            return [Issued(**row | {"scopes": tuple(row["scopes"])}) for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError):
            raise ConfigError(
                f"{self._register} is no register of devices", field="folder"
            ) from None

    def states(self) -> list[tuple[Issued, str]]:
        """Everything that was handed out, and whether it is `good`, `expired` or `revoked`."""
        revoked, now_s = self.revoked(), self._clock()
        keys = {one["kid"] for one in self._published()}

        def state(one: Issued) -> str:
            if not revoked.isdisjoint((one.name, one.token_id)):
                return "revoked"
            if one.expires_unix_s <= now_s:
                return "expired"
            return "good" if one.key_id in keys else "revoked"

        return [(one, state(one)) for one in self.issued()]

    def revoked(self) -> frozenset[str]:
        """The names that are let in no more."""
        return read_revoked(self.revoked_file) if self.revoked_file.exists() else frozenset()

    def revoke(self, name: str) -> list[Issued]:
        """Let a `tenant/device` or the token of an id in no more; the tokens that this ends.

        Raises `InvalidRequest` for a name that nothing was issued to.
        """
        with locked(self.folder):
            ended = [one for one in self.issued() if name in (one.name, one.token_id)]
            if not ended:
                raise InvalidRequest(
                    f"nothing was issued to {name!r}; give a tenant/device or a token's id, as "
                    "isthmus cloud devices lists them",
                    field="name",
                )
            if name not in self.revoked():
                before = self.revoked_file.read_text() if self.revoked_file.exists() else ""
                replace(self.revoked_file, f"{before}{name}\n", mode=0o644)
        return ended

    def rotate(self, *, at_once: bool = False) -> str:
        """Sign with a new key from now on, and return its id.

        The public key before stays for as long as tokens of it are good; `at_once` drops it, and
        with it every token that it has signed.
        """
        with locked(self.folder):
            key = self._new_key()
            if at_once:
                self.jwks_file.unlink(missing_ok=True)
            self._publish(key)
        return key_id_of(key)

    def _publish(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Write the public keys: this one's, and those of tokens that are still good."""
        now_s = self._clock()
        needed = {one.key_id for one in self.issued() if one.expires_unix_s > now_s}
        current = _jwk(key)
        kept = [
            one
            for one in self._published()
            if one["kid"] in needed and one["kid"] != current["kid"]
        ]
        replace(self.jwks_file, json.dumps({"keys": [*kept, current]}, indent=2), mode=0o644)
        if not self.revoked_file.exists():
            replace(self.revoked_file, "# a tenant/device or a token's id a line\n", mode=0o644)

    def _published(self) -> list[dict[str, str]]:
        try:
            return list(json.loads(self.jwks_file.read_text())["keys"])
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"{self.jwks_file} is no set of keys", field="folder") from None

    def _remember(self, rows: Iterable[Issued]) -> None:
        text = json.dumps([asdict(row) for row in rows], indent=1)
        replace(self._register, text, mode=0o600)

    def _key(self) -> ec.EllipticCurvePrivateKey:
        if not self._key_file.exists():
            return self._new_key()
        try:
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{self._key_file} is no key of the curve P-256", field="folder")
        return key

    def _new_key(self) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        write_key(self._key_file, key)
        return key


def check_names(tenant: str, device: str, device_class: str) -> None:
    """Raise `InvalidRequest` for names that a gateway would refuse."""
    for field, name, form in (
        ("tenant", tenant, NAME),
        ("device", device, NAME),
        ("class", device_class, CLASS),
    ):
        if not form.fullmatch(name):
            raise InvalidRequest(f"the {field} must be of the form {form.pattern}", field=field)


def key_id_of(key: ec.EllipticCurvePrivateKey) -> str:
    """The thumbprint of the public key (RFC 7638)."""
    jwk = _public(key)
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    public = _public(key)
    return {**public, "kid": key_id_of(key), "alg": ALGORITHM, "use": "sig"}


def _public(key: ec.EllipticCurvePrivateKey) -> Mapping[str, Any]:
    return jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)

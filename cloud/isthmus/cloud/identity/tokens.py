"""Device tokens: JWTs (RFC 7519) that a key pair of a JWK set has signed.

The only module that verifies them, with PyJWT. What is checked: one of the allowed algorithms, and
the one that the key is for; the signature; `exp`, `nbf` and `iat` with a leeway; `iss`; `aud`; a
device in `sub`; a tenant; that none of them is revoked. `alg: none`, keys that the token brings
itself (`jwk`, `jku`, `x5u`) and shared secrets never count.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

import jwt

from isthmus.cloud.identity.base import (
    CLASS,
    NAME,
    UNKNOWN_CLASS,
    Authenticator,
    Caller,
    Metadata,
    Refusal,
    Refused,
    Scope,
)
from isthmus.cloud.identity.bearer import bearer_of
from isthmus.cloud.identity.config import AuthConfig
from isthmus.cloud.identity.jwks import Keys

_MAX_VERIFIED: Final = 16_384
# In the order in which they are tried: the first of these classes that an error is.
_REASONS: Final[tuple[tuple[type[jwt.PyJWTError], Refusal], ...]] = (
    (jwt.InvalidSignatureError, Refusal.SIGNATURE),
    (jwt.ExpiredSignatureError, Refusal.EXPIRED),
    (jwt.ImmatureSignatureError, Refusal.EARLY),
    (jwt.InvalidIssuedAtError, Refusal.EARLY),
    (jwt.InvalidAudienceError, Refusal.AUDIENCE),
    (jwt.InvalidIssuerError, Refusal.ISSUER),
    (jwt.InvalidAlgorithmError, Refusal.ALGORITHM),
    (jwt.MissingRequiredClaimError, Refusal.CLAIMS),
)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature and claims were good once."""

    caller: Caller
    token_id: str
    expires_unix_s: float


class TokenAuthenticator:
    """Lets in who brings a good device token.

    A device calls often with the same token: the result is kept by the token's digest, so that its
    signature is verified once. Expiry and revocation are looked at in every call, and new keys
    forget all results.
    """

    def __init__(
        self,
        config: AuthConfig,
        keys: Callable[[], Keys],
        revoked: Callable[[], Set[str]] = frozenset,
        certificate: Authenticator | None = None,
    ) -> None:
        """`certificate`: it has to name the same device as the token, if there is one."""
        self._config = config
        self._keys = keys
        self._revoked = revoked
        self._certificate = certificate
        self._verified: dict[bytes, _Verified] = {}
        self._verified_with: Keys = {}

    def screen(self, metadata: Metadata) -> None:
        """Whether the token is good."""
        self._holder(metadata)

    def authenticate(self, context: Any) -> Caller:
        """The device that the token names."""
        caller = self._holder(context.invocation_metadata())
        if self._certificate is not None:
            shown = self._certificate.authenticate(context)
            if (shown.tenant, shown.device) != (caller.tenant, caller.device):
                raise Refused(Refusal.CERTIFICATE)
        return caller

    def _holder(self, metadata: Metadata) -> Caller:
        verified = self._known(bearer_of(metadata))
        caller = verified.caller
        if verified.expires_unix_s + self._config.leeway_s <= time.time():
            raise Refused(Refusal.EXPIRED)
        if not self._revoked().isdisjoint((verified.token_id, f"{caller.tenant}/{caller.device}")):
            raise Refused(Refusal.REVOKED)
        return caller

    def _known(self, token: str) -> _Verified:
        keys = self._keys()
        if keys is not self._verified_with or len(self._verified) >= _MAX_VERIFIED:
            self._verified, self._verified_with = {}, keys
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is None:
            known = self._verified[digest] = self._verify(token, keys)
        return known

    def _verify(self, token: str, keys: Keys) -> _Verified:
        try:
            claims = self._claims(token, keys)
            expires_unix_s = _seconds(claims.get("exp"))
        except jwt.PyJWTError as error:
            raise Refused(
                next((why for kind, why in _REASONS if isinstance(error, kind)), Refusal.MALFORMED)
            ) from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            # A number, a nesting or an encoding that nobody thought of.
            raise Refused(Refusal.MALFORMED) from None
        return _Verified(self._caller(claims), _text(claims.get("jti")), expires_unix_s)

    def _claims(self, token: str, keys: Keys) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        key = keys.get(header.get("kid", ""))
        algorithm = header.get("alg")
        if algorithm not in self._config.algorithms:
            raise Refused(Refusal.ALGORITHM)
        if key is None:
            raise Refused(Refusal.KEY)
        if algorithm != key.algorithm_name:
            raise Refused(Refusal.ALGORITHM)
        return jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=self._config.audience,
            issuer=self._config.issuer,
            leeway=self._config.leeway_s,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        tenant = _text(claims.get(self._config.tenant_claim))
        device = _text(claims.get("sub"))
        # A token that is bound to a key (RFC 7800) is no bearer token, and the proof is not ours.
        if not NAME.fullmatch(tenant) or not NAME.fullmatch(device) or "cnf" in claims:
            raise Refused(Refusal.CLAIMS)
        device_class = _text(claims.get("device_class"))
        return Caller(
            tenant,
            device,
            device_class if CLASS.fullmatch(device_class) else UNKNOWN_CLASS,
            _scopes(claims.get("scope")),
        )


def _scopes(claim: object) -> frozenset[Scope]:
    """Those of a claim in words (RFC 8693, section 4.2) that are known here."""
    words = claim.split(" ") if isinstance(claim, str) else claim
    listed = words if isinstance(words, list) else []
    return frozenset(scope for scope in Scope if scope.value in listed)


def _text(claim: object) -> str:
    return claim if isinstance(claim, str) else ""


def _seconds(claim: object) -> float:
    return float(claim) if isinstance(claim, int | float) else 0.0

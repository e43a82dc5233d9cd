"""The gateway's settings of who may call: the section `[auth]`.

A complete one::

    [auth]
    jwks_file = "/etc/isthmus/jwks.json"
    issuer = "https://devices.example"
    audience = "isthmus"
    algorithms = ["ES256"]
    revoked_file = "/etc/isthmus/revoked"
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Algorithm = Literal[
    "ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"
]
"""Signatures by a key pair. Those with a shared secret (`HS…`) and `none` cannot be allowed."""


class AuthConfig(BaseModel):
    """How device tokens (JWT, RFC 7519) are checked. Without `jwks_file` none are."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    jwks_file: Path | None = None
    """The public keys of whoever signs the tokens, a JWK set (RFC 7517); read again when it
    changes."""
    issuer: str = ""
    """What a token's `iss` must be."""
    audience: str = ""
    """What a token's `aud` must be, or hold."""
    algorithms: tuple[Algorithm, ...] = Field(default=("ES256", "EdDSA", "RS256"), min_length=1)
    """The signatures that are accepted."""
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    """How far the clocks may be apart."""
    tenant_claim: str = Field(default="tenant", min_length=1)
    """The claim that names the tenant. `sub` names the device."""
    revoked_file: Path | None = None
    """Who is let in no more: a `tenant/device` or a token's `jti` a line; read again when it
    changes."""
    shared_certificates: bool = False
    """A client's certificate opens the connection and says nothing of who calls, as where a proxy
    or a mesh shows its own."""
    allow_anonymous: bool = False
    """Let everybody in, on an address that other machines reach."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.jwks_file is None:
            for name in ("issuer", "audience"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for tokens, which need jwks_file")
        elif not (self.issuer and self.audience):
            raise ValueError(
                "issuer and audience are needed beside jwks_file: a token for somebody else's "
                "service would be good here"
            )
        return self

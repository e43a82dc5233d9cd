"""The gateway's configuration: one TOML file, the environment over it, flags over both.

Every setting can be given as `ISTHMUS_CLOUD_<NAME>`, and one of a table with two underscores:
`ISTHMUS_CLOUD_BACKEND__MODEL`. A complete file::

    listen = "127.0.0.1:50051"
    metrics_listen = "127.0.0.1:9464"
    token_file = "/run/secrets/isthmus-token"
    max_running_requests = 64
    max_waiting_requests = 256

    [backend]
    kind = "openai"
    url = "http://127.0.0.1:8000/v1"
    model = "qwen2.5-7b-instruct"

    [price]
    input_usd_per_mtok = "0.15"
    output_usd_per_mtok = "0.60"
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from isthmus.cloud.backends.base import BackendConfig
from isthmus.core.addresses import Address, HostPort, is_local
from isthmus.core.chat import PrivacyClass
from isthmus.core.errors import ConfigError
from isthmus.core.settings import Settings, Token


class PriceConfig(BaseModel):
    """What the answers cost, in dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    input_usd_per_mtok: Decimal = Field(default=Decimal(0), ge=0)
    output_usd_per_mtok: Decimal = Field(default=Decimal(0), ge=0)


class CloudConfig(Settings):
    """The gateway's settings. Frozen; `load` reads them."""

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_CLOUD_")

    listen: Address = "127.0.0.1:50051"
    """Where gRPC listens: `host:port` (port 0: any free one) or `unix:/path`."""
    metrics_listen: HostPort | None = "127.0.0.1:9464"
    """Where `/metrics` is served, `host:port`; empty: nowhere."""
    allow_plaintext: bool = False
    """Listen without TLS on an address that other machines reach (behind a TLS proxy)."""
    tls_cert_file: Path | None = None
    """The server's certificate chain, PEM."""
    tls_key_file: Path | None = None
    """Its private key, PEM."""
    token: Token | None = None
    """What callers must send as `authorization: Bearer …`; none: anyone may call."""
    token_file: Path | None = None
    """A file that holds the token, instead of `token`."""
    max_running_requests: int = Field(default=64, ge=1)
    """Requests that the backend answers at once."""
    max_waiting_requests: int = Field(default=256, ge=0)
    """Requests that may wait; further ones are told to come back later."""
    max_request_bytes: int = Field(default=16 * 2**20, ge=1024)
    """The largest request."""
    drain_s: float = Field(default=2.0, ge=0)
    """How long running answers may go on after a stop was asked for."""
    accept_privacy_classes: frozenset[PrivacyClass] = frozenset(
        {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}
    )
    """Requests of any other class are refused: they should not have left the device."""
    same_model_demo: bool = False
    """The model is the device's own; every answer says so."""
    backend: BackendConfig = Field(default_factory=BackendConfig)
    price: PriceConfig = Field(default_factory=PriceConfig)

    @field_validator("metrics_listen", mode="before")
    @classmethod
    def _nowhere(cls, value: object) -> object:
        # Neither TOML nor the environment has a word for none.
        return None if value == "" else value

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file must be given together")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file must not both be given")
        if not (is_local(self.listen) or self.allow_plaintext or self.tls_cert_file):
            raise ValueError(
                "listen is reached from other machines, so it needs tls_cert_file and "
                "tls_key_file; behind a proxy that does TLS, set allow_plaintext = true"
            )
        return self

    def read_token(self) -> str | None:
        """The token, from wherever it is. Raises `ConfigError` for an empty or missing file."""
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        try:
            token = self.token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"token_file cannot be read ({error.strerror})", field="token_file"
            ) from error
        if not token:
            raise ConfigError("token_file is empty", field="token_file")
        return token

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

    [[prices]]
    input_usd_per_mtok = "0.15"
    output_usd_per_mtok = "0.60"

    [quotas.device]
    requests_per_minute = 30
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.fleet.config import FleetConfig
from isthmus.cloud.identity.config import AuthConfig
from isthmus.cloud.ledger.config import LedgerConfig
from isthmus.cloud.ledger.prices import PriceEntry
from isthmus.cloud.ledger.quotas import QuotaConfig
from isthmus.cloud.limits import LimitsConfig
from isthmus.cloud.serving.config import ServingConfig
from isthmus.core.addresses import Address, HostPort, is_local
from isthmus.core.chat import PrivacyClass
from isthmus.core.settings import Settings, Token
from isthmus.core.tracing.config import TracingConfig
from isthmus.core.watched import Watched, read_secret


class CloudConfig(Settings):
    """The gateway's settings. Frozen; `load` reads them."""

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_CLOUD_")

    listen: Address = "127.0.0.1:50051"
    """Where gRPC listens: `host:port` (port 0: any free one) or `unix:/path`."""
    metrics_listen: HostPort | None = "127.0.0.1:9464"
    """Where `/metrics` is served, `host:port`; empty: nowhere."""
    health_listen: HostPort | None = None
    """Where gRPC health alone is answered, without TLS, `host:port`: for Kubernetes' probes, which
    speak none. It tells whether the gateway lives (`live`) and whether it takes requests (the
    empty name), and nothing else."""
    allow_plaintext: bool = False
    """Listen without TLS on an address that other machines reach (behind a TLS proxy)."""
    tls_cert_file: Path | None = None
    """The server's certificate chain, PEM."""
    tls_key_file: Path | None = None
    """Its private key, PEM."""
    tls_client_ca_file: Path | None = None
    """Roots of the devices' certificates, PEM: mutual TLS, no connection without one of them."""
    token: Token | None = None
    """What callers must send as `authorization: Bearer …`, one for all."""
    token_file: Path | None = None
    """A file that holds the token, instead of `token`; read again when it changes."""
    auth: AuthConfig = Field(default_factory=AuthConfig)
    cache_salt_key_file: Path | None = None
    """A secret that gateways in front of one vLLM share, so that a tenant's prefixes are cached
    once; none: a secret of this process."""
    max_running_requests: int = Field(default=64, ge=1)
    """Requests that the backend answers at once."""
    max_waiting_requests: int = Field(default=256, ge=0)
    """Requests that may wait; further ones are told to come back later."""
    max_request_bytes: int = Field(default=16 * 2**20, ge=1024)
    """The largest request."""
    drain_notice_s: float = Field(default=0.0, ge=0)
    """After a stop was asked for, how long health says NOT_SERVING and everything is still served:
    the time that a load balancer needs to notice."""
    drain_s: float = Field(default=2.0, ge=0)
    """How long running answers may go on after that; the rest are told to ask again."""
    accept_privacy_classes: frozenset[PrivacyClass] = frozenset(
        {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}
    )
    """Requests of any other class are refused: they should not have left the device."""
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    same_model_demo: bool = False
    """The model is the device's own; every answer says so."""
    backend: BackendConfig = Field(default_factory=BackendConfig)
    serving: ServingConfig = Field(default_factory=ServingConfig)
    prices: tuple[PriceEntry, ...] = ()
    """What the models cost, and since when; none: nothing."""
    prices_file: Path | None = None
    """A file that holds them, instead of `prices`; read again when it changes."""
    quotas: QuotaConfig = Field(default_factory=QuotaConfig)
    ledger: LedgerConfig = Field(default_factory=LedgerConfig)
    fleet: FleetConfig = Field(default_factory=FleetConfig)
    tracing: TracingConfig = Field(default_factory=TracingConfig)

    @field_validator("metrics_listen", "health_listen", mode="before")
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
        if self.prices and self.prices_file is not None:
            raise ValueError("prices and prices_file must not both be given")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        if self.auth.jwks_file is not None and self._has_static_token:
            raise ValueError("token and auth.jwks_file must not both be given: one way in")
        if self.auth.revoked_file is not None and not self._names_devices:
            raise ValueError(
                "auth.revoked_file names devices, which need auth.jwks_file or tls_client_ca_file"
            )
        if is_local(self.listen):
            return self
        if not (self.allow_plaintext or self.tls_cert_file):
            raise ValueError(
                "listen is reached from other machines, so it needs tls_cert_file and "
                "tls_key_file; behind a proxy that does TLS, set allow_plaintext = true"
            )
        asked = self._has_static_token or self._names_devices
        if asked and self.auth.allow_anonymous:
            raise ValueError("auth.allow_anonymous contradicts the credentials that are asked for")
        if not asked and not self.auth.allow_anonymous:
            raise ValueError(
                "listen is reached from other machines and everybody could call: ask for device "
                "tokens (auth.jwks_file), client certificates (tls_client_ca_file) or a token "
                "(token_file); to let everybody in, set auth.allow_anonymous = true"
            )
        return self

    @property
    def _has_static_token(self) -> bool:
        return self.token is not None or self.token_file is not None

    @property
    def _names_devices(self) -> bool:
        certificates = self.tls_client_ca_file is not None and not self.auth.shared_certificates
        return certificates or self.auth.jwks_file is not None

    def static_token(
        self, on_read: Callable[[str, bool], None] = lambda setting, good: None
    ) -> Callable[[], str] | None:
        """What tells the token of the moment, if one is asked for. Raises `ConfigError`."""
        if (path := self.token_file) is not None:
            return Watched(
                (path,),
                lambda: read_secret(path, "token_file"),
                on_read=lambda good: on_read("token_file", good),
            )
        return None if self.token is None else self.token.get_secret_value

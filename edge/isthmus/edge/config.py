"""The agent's settings: one TOML file, environment over file, flags over environment."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from isthmus.core.addresses import Addresses, is_loopback
from isthmus.core.errors import ConfigError
from isthmus.core.money import Price
from isthmus.core.settings import Settings, Token
from isthmus.core.tracing.config import TracingConfig
from isthmus.edge.choices import read_choices
from isthmus.edge.fleet.config import FleetConfig
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.config import RouterConfig

ENV_PREFIX = "ISTHMUS_EDGE_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class EdgeConfig(Settings):
    """Every setting of the agent. `ISTHMUS_EDGE_PORT` stands over `port` in the file."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX)

    host: str = "127.0.0.1"
    """Where to listen. Beyond loopback a token is needed."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    token: Token | None = None
    """What clients must send as `Authorization: Bearer …`. None: no token is asked for."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names (without port) that requests may name, besides those of loopback."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins (`https://app.example`) whose pages may call the agent."""

    model: str = "smollm2-135m"
    """A name of the catalogue, or the path of a GGUF file."""
    backend: str = "auto"
    """`auto` falls back by itself; a name is strict, also one as `native:avx2`."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    kv_type: Literal["float32", "float16", "int8"] = "int8"
    """How the device keeps the keys and values of conversations: less memory, less exact."""
    speculation: bool = True
    """Guess tokens from the prompt where that pays. The answers are the same without."""
    idle_unload_s: Seconds | None = None
    """Free the model's memory after so long without work on the device; it comes back by itself."""

    gateway_address: Addresses | None = None
    """`host:port` of the cloud gateway, or of its replicas with commas between. None: the agent is
    offline and answers by itself."""
    gateway_token: Token | None = None
    """What the gateway asks for. None: nothing."""
    gateway_token_file: Path | None = None
    """A file that holds it, read again when it changes, instead of `gateway_token`."""
    gateway_plaintext: bool = False
    """Speak without TLS to a gateway on another machine (where a tunnel or a proxy does it)."""
    gateway_ca_file: Path | None = None
    """Roots to trust in place of gRPC's own when the gateway shows its certificate, PEM; like the
    next two read again when it changes."""
    gateway_cert_file: Path | None = None
    """The certificate that this device shows a gateway that asks for one, PEM."""
    gateway_key_file: Path | None = None
    """Its private key, PEM."""
    cloud_input_usd_per_mtok: Usd = Decimal(0)
    cloud_output_usd_per_mtok: Usd = Decimal(0)
    cloud_cached_usd_per_mtok: Usd | None = None
    """Of the part of a prompt that the cloud had cached. None: as the rest of it."""
    cloud_silence_s: Seconds = 15.0
    """How long the cloud may say nothing before the device goes on in its place."""

    cloud_resume_s: Seconds = 3.0
    """How long a cloud answer that broke off is asked for again before the device goes on."""

    deadline_s: Seconds = 300.0
    """The time that an answer may take when the request gives none."""
    scan_timeout_s: Seconds = 5.0
    """How long the privacy scan may take; after that the request stays on the device."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    max_in_flight: Annotated[int, Field(ge=1)] = 64
    """Requests being answered or waiting; the next one gets a 429."""
    head_timeout_s: Seconds = 10.0
    """How long the head of a request may take to arrive."""
    body_timeout_s: Seconds = 30.0
    """How long its body may take after that."""

    ttft_slo_ms: tuple[Milliseconds, ...] = (500.0, 2000.0)
    """Promises of the time to the first token: edges of the histogram's buckets."""
    tpot_slo_ms: tuple[Milliseconds, ...] = (20.0, 100.0)
    """Promises of the time per output token: edges of the histogram's buckets."""

    sensors: tuple[Literal["file", "termux", "sysfs", "psutil"], ...] = (
        "file",
        "termux",
        "sysfs",
        "psutil",
    )
    """What tells the device's battery and heat; those that this device lacks say nothing."""
    sensors_file: Path | None = None
    """A JSON file with the device's state, for devices that none of the others knows."""
    sensors_interval_s: Seconds = 10.0

    router_file: Path | None = None
    """A trained file of one's own (`isthmus route train`), taken over while the agent runs when it
    changes. None: the one that ships."""
    router_shadow_set: Path | None = None
    """Graded prompts (`isthmus route label`) on which a changed file has to do as well as the one
    in use; else it is not taken."""

    fleet: FleetConfig = Field(default_factory=FleetConfig)
    """What the operator may hand out, and what is told in return."""
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    """What may leave, and in which form."""
    router: RouterConfig = Field(default_factory=RouterConfig)
    tracing: TracingConfig = Field(default_factory=TracingConfig)

    @classmethod
    def load(cls, path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Self:
        """As `Settings.load`; what was chosen on the page stands over the file."""
        loaded = super().load(path, flags)
        chosen = read_choices().free(ENV_PREFIX)
        return loaded.model_copy(
            update={
                "router": chosen.router(loaded.router),
                "privacy": chosen.of_privacy(loaded.privacy),
            }
        )

    @model_validator(mode="after")
    def _one_way_to_speak(self) -> EdgeConfig:
        if (self.gateway_cert_file is None) != (self.gateway_key_file is None):
            raise ValueError("gateway_cert_file and gateway_key_file must be given together")
        for name in ("gateway_ca_file", "gateway_cert_file"):
            if self.gateway_plaintext and getattr(self, name) is not None:
                raise ValueError(f"gateway_plaintext and {name} must not both be given")
        if self.gateway_token is not None and self.gateway_token_file is not None:
            raise ValueError("gateway_token and gateway_token_file must not both be given")
        return self

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> EdgeConfig:
        if not self.on_loopback and self.token is None:
            raise ConfigError(
                "host is not a loopback address, so everyone near could use this agent: "
                f"set a token (token = … or {ENV_PREFIX}TOKEN), or listen on 127.0.0.1",
                field="token",
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only programs of this machine can reach the agent."""
        return is_loopback(self.host)

    @property
    def cloud_price(self) -> Price:
        """What the cloud costs."""
        return Price(
            self.cloud_input_usd_per_mtok,
            self.cloud_output_usd_per_mtok,
            self.cloud_cached_usd_per_mtok,
        )

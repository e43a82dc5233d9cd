"""The agent's settings: one TOML file, environment over file, flags over environment."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from isthmus.core.errors import ConfigError
from isthmus.core.money import Price
from isthmus.router.config import RouterConfig

ENV_PREFIX = "ISTHMUS_EDGE_"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class EdgeConfig(BaseSettings):
    """Every setting of the agent. `ISTHMUS_EDGE_PORT` stands over `port` in the file."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    """Where to listen. Beyond loopback a token is needed."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    token: SecretStr | None = None
    """What clients must send as `Authorization: Bearer …`. None: no token is asked for."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names (without port) that requests may name, besides those of loopback."""
    allowed_origins: tuple[str, ...] = ()
    """Web origins (`https://app.example`) whose pages may call the agent."""

    model: str = "smollm2-135m"
    """A name of the catalogue, or the path of a GGUF file."""
    backend: str = "auto"
    """`auto` falls back by itself; a name is strict."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None

    gateway_address: str | None = None
    """`host:port` of the cloud gateway. None: the agent is offline and answers by itself."""
    gateway_token: SecretStr | None = None
    cloud_input_usd_per_mtok: Usd = Decimal(0)
    cloud_output_usd_per_mtok: Usd = Decimal(0)
    cloud_silence_s: Seconds = 15.0
    """How long the cloud may say nothing before the device goes on in its place."""

    deadline_s: Seconds = 300.0
    """The time that an answer may take when the request gives none."""
    scan_timeout_s: Seconds = 5.0
    """How long the privacy scan may take; after that the request stays on the device."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    max_in_flight: Annotated[int, Field(ge=1)] = 64
    """Requests being answered or waiting; the next one gets a 429."""
    body_timeout_s: Seconds = 30.0
    """How long a client may take to send its request."""

    ttft_slo_ms: tuple[Milliseconds, ...] = (500.0, 2000.0)
    """Promises of the time to the first token: edges of the histogram's buckets."""
    tpot_slo_ms: tuple[Milliseconds, ...] = (20.0, 100.0)
    """Promises of the time per output token: edges of the histogram's buckets."""

    router: RouterConfig = Field(default_factory=RouterConfig)

    @field_validator("gateway_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            host, _, port = value.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("must be host:port, for example 127.0.0.1:50051")
        return value

    @field_validator("token", "gateway_token")
    @classmethod
    def _not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip():
            raise ValueError("must not be empty; leave it out to ask for none")
        return value

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
        return Price(self.cloud_input_usd_per_mtok, self.cloud_output_usd_per_mtok)


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or an address of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_config(path: Path | None = None, **flags: Any) -> EdgeConfig:
    """The settings of `path`, with the environment and then `flags` (those not None) over them.

    Raises `ConfigError`, naming the setting.
    """
    in_file = _read(path) if path is not None else {}
    _check_environment()

    class Loaded(EdgeConfig):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, in_file)

    try:
        return Loaded(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise _named(error) from None
    except SettingsError as error:
        # Its message names the field and the source; its cause would show the value.
        raise ConfigError(f"{error} (lists are written as JSON)", field="environment") from None


def split_listen(listen: str) -> tuple[str, int]:
    """`host:port` (or `[::1]:port`) as its two halves. Raises `ConfigError`."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError("--listen must be host:port, for example 127.0.0.1:8080", field="listen")
    return host.strip("[]"), int(port)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings file {path}: {error.strerror}", field="config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", field="config") from None


def _check_environment() -> None:
    known = {f"{ENV_PREFIX}{name}".upper() for name in EdgeConfig.model_fields}
    for name in os.environ:
        upper = name.upper()
        if upper.startswith(ENV_PREFIX) and upper.split("__")[0] not in known:
            setting = name[len(ENV_PREFIX) :].lower()
            raise ConfigError(
                f"the environment variable {name} sets nothing that the agent knows", field=setting
            )


def _named(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "config"
    message = "is no setting of the agent" if first["type"] == "extra_forbidden" else first["msg"]
    return ConfigError(f"{field}: {message.removeprefix('Value error, ')}", field=field)

"""A program's settings: one TOML file, the environment over it, flags over both.

A setting that nobody knows is an error in all three, and every error names the setting and never
shows its value.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from isthmus.core.errors import ConfigError
from isthmus.core.misspelt import nearest, wrong_settings


def _sendable(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces; leave it out to have none")
    return token


Token = Annotated[SecretStr, AfterValidator(_sendable)]
"""A setting that is a secret of `Authorization: Bearer …`."""


class Settings(BaseSettings):
    """The base of each tier's settings; a subclass sets `env_prefix`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_nested_delimiter="__",
    )

    @classmethod
    def load(cls, path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Self:
        """The settings of the file at `path`, the environment over it, `flags` over both.

        Raises `ConfigError`.
        """
        in_file = {} if path is None else _read(path)
        cls._check_environment()

        class Loaded(cls):  # type: ignore[valid-type,misc]
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
            loaded: Self = Loaded(**(flags or {}))
        except ValidationError as error:
            raise _named(error, cls) from None
        except SettingsError as error:
            # Its message names the field and the source; its cause would show the value.
            raise ConfigError(f"{error} (lists are written as JSON)", field="environment") from None
        return loaded

    @classmethod
    def _check_environment(cls) -> None:
        """A misspelt variable would otherwise be dropped silently."""
        prefix = cls.model_config["env_prefix"].upper()
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        for name in os.environ:
            if name.upper().startswith(prefix) and name.upper().split("__")[0] not in known:
                raise ConfigError(
                    f"the environment variable {name} sets nothing that is known"
                    f"{nearest(name.upper(), known)}",
                    field=name[len(prefix) :].lower(),
                )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the settings file {path} cannot be read: {error.strerror}", field="config"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", field="config") from None


def _named(error: ValidationError, settings: type[BaseModel]) -> ConfigError:
    """All that is wrong, each with the setting's name; `field` is the first one's."""
    wrong = wrong_settings(error, settings)
    # A check of several settings together says which in its own words.
    told = [f"{name}: {message}" if name else message for name, message in wrong]
    name, message = wrong[0]
    return ConfigError("; ".join(told), field=name or message.split(maxsplit=1)[0])

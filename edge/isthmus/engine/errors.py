"""Errors of the engine, below those of `isthmus.core`::

NotSupported
└── ModelNotSupported     the file is sound, but this engine cannot run it; says what it can
InvalidRequest
├── UnknownModel          no such name in the catalogue; suggests near ones
└── TemplateRefused       the model's chat template does not accept the conversation
Unavailable
├── ModelDamaged          the file is truncated or broken
└── ModelUnavailable      the model is not here and no source gave it; `reasons` has each one's
ConfigError
└── CatalogueError        a catalogue file is wrong; names the entry
"""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.core.errors import ConfigError, InvalidRequest, NotSupported, Unavailable


class ModelNotSupported(NotSupported):
    """The model's architecture, tensor types or tokenizer are none that this engine knows."""

    kind = "model_not_supported"


class UnknownModel(InvalidRequest):
    """A model name that the catalogue does not have."""

    kind = "unknown_model"


class TemplateRefused(InvalidRequest):
    """The chat template raised an error for this conversation."""

    kind = "template_refused"


class ModelDamaged(Unavailable):
    """A model file that is truncated or broken."""

    kind = "model_damaged"


class ModelUnavailable(Unavailable):
    """A model that no source gave. `reasons` has each source's own."""

    kind = "model_unavailable"

    def __init__(self, message: str, reasons: Mapping[str, str] | None = None) -> None:
        table = "".join(f"\n  {source}: {why}" for source, why in (reasons or {}).items())
        super().__init__(message + table)
        self.reasons = dict(reasons or {})


class CatalogueError(ConfigError):
    """A catalogue file that cannot be understood; `field` names the entry."""

    kind = "catalogue"

"""The texts of a conversion: one that guides the search, and those that it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import chain

from isthmus.core.errors import InvalidRequest
from isthmus.engine.model import ModelFile
from isthmus.engine.tokens.tokenizer import Tokenizer

WINDOW = 512
"""Tokens that are read together."""
MAX_CALIBRATION_TOKENS = 8192
MAX_EVALUATION_TOKENS = 8192
"""Of each text."""
_HELD_OUT = 4
"""Without an evaluation text, every fourth window of the user's own is kept for it."""
EVALUATION = ("prose", "chinese", "code")
"""What the text that ships is measured on. None of it is in the calibration text."""
DEFAULT_ORIGIN = "Isthmus's own text (Apache-2.0)"

Windows = list[list[int]]
"""Token ids."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Token ids in windows."""

    calibration: Windows
    evaluation: Mapping[str, Windows]
    """By the text's name."""
    origin: str
    """Where the calibration text is from, for the card of the result."""

    @property
    def evaluated(self) -> Windows:
        """The windows of all evaluation texts."""
        return list(chain.from_iterable(self.evaluation.values()))


def prepare(
    model: ModelFile,
    *,
    calibration: str | None = None,
    evaluation: Mapping[str, str] | None = None,
) -> Texts:
    """Tokenize what the user gave, or the texts that ship. evaluation: texts by their names

    Raises `InvalidRequest` when a text is too short to work with.
    """
    tokenizer = Tokenizer(model.tokenizer)
    given = shipped("calibration") if calibration is None else calibration
    windows = _windows(tokenizer.encode(given), MAX_CALIBRATION_TOKENS)
    if not windows:
        raise InvalidRequest(
            "the calibration text is too short: give at least two tokens, better some thousand",
            field="calibration",
        )
    origin = DEFAULT_ORIGIN if calibration is None else "the user's own text"
    if calibration is not None and not evaluation:
        if len(windows) == 1:
            raise InvalidRequest(
                f"the calibration text is too short to keep a part of it to measure on: give at "
                f"least {WINDOW + 2} tokens, or another text with --evaluation",
                field="calibration",
            )
        kept = [w for i, w in enumerate(windows) if i % _HELD_OUT]
        return Texts(kept, {"kept back": windows[::_HELD_OUT]}, origin)
    measured: dict[str, Windows] = {}
    for name, text in (evaluation or {name: shipped(name) for name in EVALUATION}).items():
        measured[name] = _windows(tokenizer.encode(text), MAX_EVALUATION_TOKENS)
        if not measured[name]:
            raise InvalidRequest(
                f"the evaluation text {name} is too short: give at least two tokens",
                field="evaluation",
            )
    return Texts(windows, measured, origin)


def shipped(name: str) -> str:
    """A text that ships: `calibration`, or one of `EVALUATION`."""
    return resources.files(__package__).joinpath("texts", f"{name}.txt").read_text("utf-8")


def _windows(ids: list[int], limit: int) -> Windows:
    cut = ids[:limit]
    windows = [cut[first : first + WINDOW] for first in range(0, len(cut), WINDOW)]
    return [window for window in windows if len(window) > 1]

"""The texts of a conversion: one that guides the search, and one that it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from isthmus.core.errors import InvalidRequest
from isthmus.engine.model import ModelFile
from isthmus.engine.tokenizer import Tokenizer

WINDOW = 512
"""Tokens that are read together."""
MAX_CALIBRATION_TOKENS = 8192
MAX_EVALUATION_TOKENS = 8192
_HELD_OUT = 4
"""Without an evaluation text, every fourth window of the calibration text is kept for it."""
DEFAULT_ORIGIN = "Isthmus's own text (Apache-2.0)"


@dataclass(frozen=True, slots=True)
class Texts:
    """Token ids in windows."""

    calibration: list[list[int]]
    evaluation: list[list[int]]
    origin: str
    """Where the calibration text is from, for the card of the result."""

    @property
    def evaluated(self) -> int:
        """Tokens that are predicted from those before them."""
        return sum(len(window) - 1 for window in self.evaluation)


def prepare(
    model: ModelFile, *, calibration: str | None = None, evaluation: str | None = None
) -> Texts:
    """Tokenize what the user gave, or the text that ships.

    Raises `InvalidRequest` when a text is too short to work with.
    """
    tokenizer = Tokenizer(model.tokenizer)
    given = default_text() if calibration is None else calibration
    windows = _windows(tokenizer.encode(given), MAX_CALIBRATION_TOKENS)
    held_out: list[list[int]] = []
    if evaluation is not None:
        held_out = _windows(tokenizer.encode(evaluation), MAX_EVALUATION_TOKENS)
    elif len(windows) > 1:
        held_out = windows[::_HELD_OUT]
        windows = [w for i, w in enumerate(windows) if i % _HELD_OUT]
    if not windows or not held_out:
        raise InvalidRequest(
            f"a text of conversion is too short: give at least {2 * WINDOW} tokens to calibrate "
            "on, or two to evaluate on in a file of their own",
            field="calibration",
        )
    origin = DEFAULT_ORIGIN if calibration is None else "the user's own text"
    return Texts(windows, held_out, origin)


def default_text() -> str:
    """The calibration text that ships."""
    return resources.files(__package__).joinpath("calibration.txt").read_text("utf-8")


def _windows(ids: list[int], limit: int) -> list[list[int]]:
    cut = ids[:limit]
    windows = [cut[first : first + WINDOW] for first in range(0, len(cut), WINDOW)]
    return [window for window in windows if len(window) > 1]

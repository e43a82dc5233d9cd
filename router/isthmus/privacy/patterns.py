r"""A user's own patterns and word lists: employee numbers, names of projects, code words.

They stand in the TOML file, as many as wanted:

    [[privacy.patterns]]
    name = "employee number"
    label = "EMPLOYEE"
    pattern = 'EMP-\d{6}'

    [[privacy.patterns]]
    name = "projects"
    label = "PROJECT"
    words = ["Blue Heron", "青鸟计划"]     # or file = "projects.txt", a word a line
    action = "local_only"

Patterns are RE2's (https://github.com/google/re2/wiki/Syntax): its time is linear in the text, so
that none can backtrack without end. What it lacks for that (look-arounds, back references) is
refused at start, by name. Whether a letter or digit may stand beside a match is `whole`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isthmus.core.errors import ConfigError
from isthmus.privacy.base import Span
from isthmus.privacy.normalise import normalise

MAX_PROGRAM_BYTES = 64 << 20
"""What a pattern may take when compiled: enough for a list of some 100,000 words."""


class PatternSettings(BaseModel):
    """One `[[privacy.patterns]]`: a pattern, words, or a file of words, and their label."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    label: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]
    """One of the labels, or a new one."""
    pattern: str | None = None
    words: tuple[str, ...] | None = None
    file: Path | None = None
    """A word a line, in UTF-8; empty lines and those that begin with # are skipped."""
    score: Annotated[float, Field(gt=0, le=1)] = 0.95
    action: Literal["local_only", "redact", "allow"] | None = None
    """What the policy does about the label; `None`: as for any label that no rule names."""
    whole: bool = True
    """Whether a match beside a further Latin letter or digit is none."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.pattern, self.words, self.file)) != 1:
            raise ValueError("needs one of pattern, words and file")
        return self


@dataclass(frozen=True, slots=True)
class _Compiled:
    label: str
    score: float
    whole: bool
    pattern: Any


class UserPatterns:
    """The detector of a user's patterns."""

    name = "user_patterns"

    def __init__(self, settings: Sequence[PatternSettings]) -> None:
        """Compile `settings`.

        Raises `ConfigError`, which names the pattern and what is wrong with it.
        """
        names = [setting.name for setting in settings]
        for name in names:
            if names.count(name) > 1:
                raise _error(name, "the name is used twice")
        self._patterns = tuple(_compile(setting) for setting in settings)
        self.labels = frozenset(setting.label for setting in settings)

    def detect(self, text: str) -> Iterator[Span]:
        """What the patterns match."""
        for compiled in self._patterns:
            for found in compiled.pattern.finditer(text):
                start, end = found.span()
                if end > start and not (compiled.whole and _goes_on(text, start, end)):
                    yield Span(start, end, compiled.label, compiled.score)


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether the match is a piece of a longer word or number. Chinese has no such boundary."""
    return (start > 0 and _joined(text[start - 1], text[start])) or (
        end < len(text) and _joined(text[end - 1], text[end])
    )


def _joined(left: str, right: str) -> bool:
    return (left + right).isascii() and left.isalnum() and right.isalnum()


def _compile(setting: PatternSettings) -> _Compiled:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PROGRAM_BYTES
    if setting.pattern is not None:
        source = setting.pattern
    else:
        words = {normalise(word.strip()).text for word in _words(setting)} - {""}
        if not words:
            raise _error(setting.name, "holds no word")
        # The longest first: of two that begin alike, the longer is meant.
        source = "|".join(map(re2.escape, sorted(words, key=lambda word: (-len(word), word))))
        options.case_sensitive = False
    try:
        pattern = re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0] if error.args else b""
        reason = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise _error(setting.name, f"is no valid RE2 pattern: {reason}") from None
    if pattern.search("") is not None:
        raise _error(setting.name, "matches the empty text, and so everywhere")
    return _Compiled(setting.label, setting.score, setting.whole, pattern)


def _words(setting: PatternSettings) -> Sequence[str]:
    if setting.words is not None:
        return setting.words
    assert setting.file is not None  # the validator's promise
    try:
        lines = setting.file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _error(setting.name, f"cannot read its file: {type(error).__name__}") from None
    return [line for line in lines if not line.startswith("#")]


def _error(name: str, message: str) -> ConfigError:
    return ConfigError(f"the pattern {name!r} {message}", field="privacy.patterns")

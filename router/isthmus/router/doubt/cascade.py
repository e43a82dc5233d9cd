"""The third look, while the device writes: go on, or hand the answer over, and from where.

A `Watch` is fed each piece of an answer with the log-probabilities of its tokens. It keeps the last
few tokens back, so that what it lets through never has to be taken back: when it says "hand over",
the part that stands is at least what was let through, and ends where a reader would pause.

    watch = Watch(WatchConfig())
    for delta in deltas:
        verdict = watch.feed(delta.text, [token.logprob for token in delta.logprobs])
        show(verdict.shown)
        if verdict.doubt is not None:
            answer_so_far = watch.text[: verdict.stands]  # all shown by now; the cloud continues it
            break
    else:
        show(watch.end().shown)

Pure: no clock, no input or output, no text in its reasons.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from isthmus.router.doubt.forms import FormCheck
from isthmus.router.doubt.repetition import Repetition

_ENDS: Final = (
    re.compile(r"\n"),
    re.compile(r"[.!?…][\"')\]*_]*(?=\s)\s?|[。！？；][”’」』）]*"),
    re.compile(r"\s|(?<=[\u3040-\u30ff\u3400-\u9fff\uff0c、])"),
)
"""Where a text may be parted, the best way first: after a line, a sentence, a word. Chinese and
Japanese have no spaces: there every character ends one."""


_LEAST_LOGPROB: Final = -5.0
"""What a token counts at least, nats: one rare name is no doubt."""


class Doubt(StrEnum):
    """Why an answer is handed over."""

    UNSURE = "unsure"
    """The mean log-probability of the last tokens fell below the threshold."""
    REPEATS = "repeats"
    """It goes round in circles."""
    BROKEN_FORM = "broken_form"
    """It is no longer the JSON, or no longer fits the schema, that was asked for."""


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """When to doubt. The defaults hand over what is clearly lost and nothing else.

    Raises `ValueError` for a field that makes no sense.
    """

    window_tokens: int = 8
    """Tokens over which log-probabilities are averaged, 1 or more."""
    unsure_logprob: float = -1.5
    """Hand over when the mean of a full window is below it; nats a token, 0 or less. On everyday
    tasks that a 135M model answered this hands over 13% of the failures and 2% of the rest
    (docs/doubt.md)."""
    unsure_sampled_logprob: float = -2.5
    """The same for an answer that is drawn and not the likeliest: drawn tokens are less likely by
    their nature, however sure the model is."""
    hold_back_tokens: int = 6
    """Tokens that are kept back; 0 shows everything at once."""
    longest_word_chars: int = 32
    """What is shown ends with a word, unless that would keep back more than this."""

    def __post_init__(self) -> None:
        """Check every field."""
        if self.window_tokens < 1:
            raise ValueError("window_tokens must be 1 or more")
        if not self.unsure_logprob <= 0:
            raise ValueError("unsure_logprob must be 0 or less")
        if not self.unsure_sampled_logprob <= 0:
            raise ValueError("unsure_sampled_logprob must be 0 or less")
        if self.hold_back_tokens < 0:
            raise ValueError("hold_back_tokens must be 0 or more")
        if self.longest_word_chars < 0:
            raise ValueError("longest_word_chars must be 0 or more")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a piece of an answer."""

    shown: str
    """What to show now, for good. Empty while text is kept back."""
    doubt: Doubt | None = None
    """Why to hand over; None: go on."""
    stands: int = 0
    """Characters of the whole answer that have been let through, `shown` included. With a doubt the
    rest of the answer is dropped, and the other tier continues behind these."""


class Watch:
    """Watches one answer as it is written. Feed it in order, from one thread.

    After a doubt it says the same for ever, and shows nothing more.
    """

    def __init__(
        self,
        config: WatchConfig | None = None,
        *,
        form: FormCheck | None = None,
        sampled: bool = False,
    ) -> None:
        """Watch with `config`; `form` is the form that the text must have, where one was asked.

        `sampled`: the tokens are drawn (a temperature above 0).
        """
        self._config = config or WatchConfig()
        at = self._config
        self._unsure = at.unsure_sampled_logprob if sampled else at.unsure_logprob
        self._form = form
        self._repetition = Repetition()
        self._text = ""
        self._shown = 0
        self._starts: deque[int] = deque(maxlen=max(1, self._config.hold_back_tokens))
        """Where in the text the last tokens begin, those that are kept back."""
        self._window: deque[tuple[int, float]] = deque(maxlen=self._config.window_tokens)
        """Of the last tokens: where in the text each begins, its log-probability."""
        self._doubt: Doubt | None = None

    @property
    def text(self) -> str:
        """The whole answer so far, the part that is kept back included."""
        return self._text

    @property
    def mean_logprob(self) -> float | None:
        """The window's mean, nats a token; None before the first log-probability."""
        if not self._window:
            return None
        return sum(logprob for _, logprob in self._window) / len(self._window)

    def feed(self, text: str, logprobs: Sequence[float] = (), *, tokens: int = 1) -> Verdict:
        """Take the next piece: its text, and the log-probability of each of its tokens.

        `tokens` says how many there are where log-probabilities are not known; then only
        repetition and form are watched. A piece of several tokens counts as if they all began
        with it.
        """
        if self._doubt is not None:
            return Verdict("", self._doubt, self._shown)
        start = len(self._text)
        self._text += text
        for logprob in logprobs:
            self._window.append((start, max(logprob, _LEAST_LOGPROB)))
        for _ in range(len(logprobs) or tokens):
            self._starts.append(start)
        lost = self._lost_at(text)
        if lost is not None:
            self._doubt, at = lost
            return self._let_through(self._parted(at))
        held = self._starts[0] if self._config.hold_back_tokens else len(self._text)
        at = self._parted(held, fine=True)
        return self._let_through(at if held - at <= self._config.longest_word_chars else held)

    def end(self) -> Verdict:
        """The answer is whole: show what was kept back, unless its form is not whole."""
        if self._doubt is None and self._form is not None and not self._form.complete:
            self._doubt = Doubt.BROKEN_FORM
        return self._let_through(self._shown if self._doubt else len(self._text))

    def _lost_at(self, text: str) -> tuple[Doubt, int] | None:
        """The reason to hand over and where the lost part begins; None: there is none."""
        if self._form is not None and (broken := self._form.feed(text)) is not None:
            return Doubt.BROKEN_FORM, broken
        if (again := self._repetition.feed(text)) is not None:
            return Doubt.REPEATS, again
        mean = self.mean_logprob
        full = len(self._window) == self._config.window_tokens
        if full and mean is not None and not mean >= self._unsure:  # NaN too
            return Doubt.UNSURE, self._window[0][0]
        return None

    def _parted(self, at: int, *, fine: bool = False) -> int:
        """The best place to part the text at or before `at`, not before what was shown.

        The end of a line or a sentence if there is one, else of a word; with `fine` the last end
        of a word. In a form that is kept every place is as good.
        """
        if at <= self._shown or self._form is not None:
            return max(at, self._shown)
        for ends in _ENDS[-1:] if fine else _ENDS:
            places = [m.end() for m in ends.finditer(self._text, self._shown, at)]
            if places:
                return places[-1]
        return self._shown

    def _let_through(self, upto: int) -> Verdict:
        upto = max(upto, self._shown)
        shown = self._text[self._shown : upto]
        self._shown = upto
        return Verdict(shown, self._doubt, upto)

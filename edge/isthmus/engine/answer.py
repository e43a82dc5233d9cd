"""One answer in the making: its tokens, its text, and where its events go."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from isthmus.core.chat import Sampling
from isthmus.core.deadline import Deadline
from isthmus.core.errors import IsthmusError
from isthmus.core.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    FirstToken,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
)
from isthmus.core.money import Usage
from isthmus.engine.calls import CallReader, overlap
from isthmus.engine.constraint import Constraint
from isthmus.engine.kv import Lease
from isthmus.engine.sampler import Choice, Sampler, first_token
from isthmus.engine.speculation import Speculator
from isthmus.engine.tokens.tokenizer import Segment, StreamDecoder, Tokenizer
from isthmus.kernels.base import F32

Sink = Callable[[Event | IsthmusError], None]
"""Takes events from the engine's thread. Must not block."""


@dataclass(frozen=True, slots=True)
class Job:
    """What an answer is asked for with: a tokenized prompt and its limits."""

    segments: tuple[Segment, ...]
    tokens: list[int]
    sampling: Sampling
    max_tokens: int
    deadline: Deadline
    sink: Sink
    constraint: Constraint | None = None
    """The form that the answer must have. Its alone: it remembers what was written."""
    reads_calls: bool = False
    """The constraint lets the model write tool calls."""
    watched: bool = False
    """The first token's statistics and every log-probability are wanted."""
    judged: int = 0
    """So many of the last tokens are to be judged (`Answer.judgement`) before any is written."""
    cache_salt: str = ""
    """It shares prefixes with answers of the same one alone."""


class StopFilter:
    """Cuts a stream of text at the first stop string, and holds back what could become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string was found."""
        if not self._stops:
            return text, False
        text = self._held + text
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back and became no stop string."""
        held, self._held = self._held, ""
        return held


class Answer:
    """The state of one answer. The engine's thread owns it; others only set `cancelled`."""

    def __init__(self, job: Job, tokenizer: Tokenizer) -> None:
        self.job = job
        self.tokens = list(job.tokens)
        """Prompt and answer."""
        self.computed = 0
        """How many of `tokens` have their keys and values in the pool."""
        self.lease = Lease()
        self.cancelled = False
        self.cached_tokens: int | None = None
        """Prompt tokens that were in the pool already; None before the work began."""
        self.speculator: Speculator | None = None
        """Guesses the tokens that follow, when that is wanted."""
        self._tokenizer = tokenizer
        sampling = job.sampling
        if job.watched and sampling.top_logprobs is None:
            sampling = replace(sampling, top_logprobs=0)
        self._sampler = Sampler(sampling, job.tokens, job.constraint)
        self._decoder = StreamDecoder(tokenizer, after=job.tokens)
        self._calls = CallReader() if job.reads_calls else None
        self._stops = StopFilter(job.sampling.stop)
        self._text: list[str] = []
        """What the model wrote, calls and all."""
        self._cut = False
        self._end: Finished | None = None
        self._sent = 0
        self._unsent_logprobs: list[TokenLogprob] = []
        self._first_token: FirstToken | None = None
        """Until it is sent."""
        self._judgement: dict[int, tuple[float, bool]] = {}
        """Position of a judged token → its log-probability, and whether none is likelier."""

    @property
    def written(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - len(self.job.tokens)

    @property
    def pending(self) -> int:
        """Tokens that are not computed yet: 1 while the answer is being written."""
        return len(self.tokens) - self.computed

    @property
    def wants_best_alone(self) -> bool:
        """Whether it looks at nothing but the largest logit of a row."""
        return self._sampler.wants_best_alone and not self.job.judged

    @property
    def first_judged(self) -> int:
        """Where the tokens begin that are judged: at the prompt's end when none are."""
        return len(self.job.tokens) - self.job.judged

    @property
    def reusable(self) -> list[int]:
        """The tokens whose keys and values may come from the pool: nobody asks for their logits."""
        return self.tokens[: self.first_judged] if self.job.judged else self.tokens

    @property
    def judgement(self) -> list[tuple[float, bool]]:
        """Of each judged token its log-probability, and whether none is likelier."""
        return [told for _, told in sorted(self._judgement.items())]

    def judge(self, position: int, logits: F32) -> None:
        """Judge the token at `position` by the logits before it. logits: [vocab]"""
        token, best = self.tokens[position], float(logits.max())
        total = best + math.log(np.exp(logits - logits.max(), dtype=np.float64).sum())
        self._judgement[position] = float(logits[token]) - total, float(logits[token]) >= best

    @property
    def wants_hidden(self) -> bool:
        """Whether the hidden state behind its next token is wanted."""
        return self.job.watched and self.written == 0

    @property
    def usage(self) -> Usage:
        """What it took so far."""
        return Usage(len(self.job.tokens), self.written, self.cached_tokens or 0)

    def skip_to(self, computed: int) -> None:
        """Go on from what another answer has computed of the same tokens."""
        if self.written == 0 and self.cached_tokens is not None:
            gained = self.cached_tokens + computed - self.computed
            self.cached_tokens = min(gained, len(self.job.tokens))
        self.computed = computed

    def choose(self, logits: F32, hidden: F32 | None = None) -> Choice:
        """Sample the next token. Raises as `Sampler.choose` does.

        logits: [vocab]; hidden: [hidden], the state behind them when it was captured.
        """
        choice = self._sampler.choose(logits)
        if self.wants_hidden:
            self._first_token = first_token(logits, hidden)
        return choice

    def add(self, choice: Choice) -> bool:
        """Take a token: send what text it completes; True when the answer has ended with it."""
        constraint = self.job.constraint
        # A constraint allows the end where the answer may end, and nothing after it.
        heeds_eos = not self.job.sampling.ignore_eos or constraint is not None
        if choice.token in self._tokenizer.spec.eos_ids and heeds_eos:
            self._finish(FinishReason.STOP)
            return True
        self.tokens.append(choice.token)
        if choice.logprob is not None:
            self._unsent_logprobs.append(self._logprob(choice, choice.logprob))
        text, calls = self._read(self._decoder.push(choice.token))
        if self._cut or (constraint is not None and constraint.finished):
            self._send(text, calls)
            self._finish(FinishReason.STOP)
        elif self.written >= self.job.max_tokens:
            self._send(text, calls)
            self._finish(FinishReason.LENGTH)
        else:
            if text or calls or self._first_token is not None:
                self._send(text, calls)
            return False
        return True

    def tell_end(self) -> None:
        """Send that it has ended; first keep its tokens: the next turn may come at once."""
        if self._end is not None:
            self.job.sink(self._end)

    def fail(self, error: IsthmusError) -> None:
        """End with an error."""
        self.job.sink(error)

    def text_so_far(self) -> tuple[Segment, ...]:
        """Prompt and answer as text, by which a next turn is recognised; empty when it cannot be.

        A text that was cut at a stop string, or of which a part was held back, is not what its
        tokens say: only tokens match then.
        """
        told = not self._cut and self._sent == self.written
        if not told or not self.job.segments or self.job.segments[-1].is_control:
            return ()
        *before, last = self.job.segments
        return (*before, Segment(last.text + "".join(self._text)))

    def _read(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What may be shown of a piece that the model wrote. Stop strings end text, not calls."""
        self._text.append(text)
        if self._calls is None:
            text, self._cut = self._stops.push(text)
            return text, ()
        text, calls = self._calls.push(text)
        text, self._cut = self._stops.push(text)
        if self._cut or not calls:
            return text, ()
        return text + self._stops.flush(), calls

    def _send(self, text: str, calls: tuple[ToolCallDelta, ...] = ()) -> None:
        token_ids = tuple(self.tokens[len(self.job.tokens) + self._sent :])
        logprobs = tuple(self._unsent_logprobs)
        self.job.sink(Delta(text, len(token_ids), logprobs, calls, token_ids, self._first_token))
        self._sent = self.written
        self._unsent_logprobs = []
        self._first_token = None

    def _finish(self, reason: FinishReason) -> None:
        rest = ""
        if not self._cut:
            if self._calls is not None:
                rest = self._stops.push(self._calls.flush())[0]
            rest += self._stops.flush()
        if rest or self._sent < self.written or self._first_token is not None:
            self._send(rest)
        if reason is FinishReason.STOP and self._calls is not None and self._calls.complete:
            reason = FinishReason.TOOL_CALLS
        self._end = Finished(reason, self.usage)

    def _logprob(self, choice: Choice, logprob: float) -> TokenLogprob:
        raw = self._tokenizer.token_bytes(choice.token)
        top = tuple(self._top(token, value) for token, value in choice.top)
        return TokenLogprob(raw.decode(errors="replace"), logprob, raw, top)

    def _top(self, token: int, logprob: float) -> TopLogprob:
        raw = self._tokenizer.token_bytes(token)
        return TopLogprob(raw.decode(errors="replace"), logprob, raw)

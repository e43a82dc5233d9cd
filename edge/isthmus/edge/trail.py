"""The trail of one request: what was decided, shown and used. It ends as an `Outcome`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role, TextPart, ToolCall
from isthmus.core.decision import Decision, Outcome, Reason, Status, Target
from isthmus.core.errors import (
    InvalidRequest,
    IsthmusError,
    NotSupported,
    Overloaded,
    PolicyRefused,
)
from isthmus.core.events import Delta
from isthmus.core.money import Price, Usage
from isthmus.core.tracing.base import NO_SPAN, Kind, Span
from isthmus.edge.leg import Leg, LegEnd
from isthmus.edge.leg_rows import LegRow
from isthmus.edge.spending import Purse
from isthmus.privacy.receipts import Receipt, Sent, Treatment

_REFUSALS = (InvalidRequest, NotSupported, PolicyRefused, Overloaded)


@dataclass(slots=True)
class Trail:
    """Everything that is known of a request while it is answered. Changed by the agent alone."""

    request: ChatRequest
    streams: bool = True
    """Whether the client sees the answer grow. One that waits for the whole sees no retraction."""
    traceparent: str = ""
    """The trace that the client says this is a part of (W3C Trace Context)."""
    span: Span = NO_SPAN
    route: Target = Target.EDGE
    decision: Decision | None = None
    reasons: list[Reason] = field(default_factory=list)
    privacy_class: PrivacyClass = PrivacyClass.UNKNOWN
    status: Status = Status.FAILED
    error_kind: str = ""
    """The kind of the error that ended the request, or of the one that the other tier made good."""
    policy: str = ""
    """The name of the privacy policy for it."""
    found: Mapping[str, int] = field(default_factory=dict)
    """How many values of each label the request has."""
    redacted: dict[str, int] = field(default_factory=dict)
    """How many placeholders of each label were in what left for the cloud."""
    sent: list[Sent] = field(default_factory=list)
    """What left the device."""
    legs: list[Leg] = field(default_factory=list)
    cloud_price: Price = field(default_factory=Price)
    purse: Purse = field(default_factory=Purse)
    """What the cloud may be paid for it."""
    at_unix_s: float = field(default_factory=time.time)
    began_s: float = field(default_factory=time.monotonic)
    first_token_s: float | None = None
    last_token_s: float | None = None
    ended_s: float | None = None
    agreement: float | None = None
    """Of a second answer: how alike it and the first one are."""
    regret_micro_usd: float | None = None
    """Of a second answer: what its tier was worth more than the one that was chosen."""
    _pieces: list[str] = field(default_factory=list)
    _tool_calls: dict[int, list[str]] = field(default_factory=dict)
    """index → id, name, arguments"""

    @property
    def shown(self) -> bool:
        """Whether the client has seen something of the answer."""
        return bool(self._pieces) or bool(self._tool_calls)

    @property
    def text(self) -> str:
        """The text shown so far."""
        return "".join(self._pieces)

    @property
    def has_tool_calls(self) -> bool:
        """Whether a piece of a tool call was shown: that cannot be continued elsewhere."""
        return bool(self._tool_calls)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls shown so far."""
        return tuple(ToolCall(*self._tool_calls[index]) for index in sorted(self._tool_calls))

    def answer(self) -> Message:
        """What was shown, as a message of the conversation."""
        content = (TextPart(self.text),) if self._pieces else ()
        return Message(Role.ASSISTANT, content, tool_calls=self.tool_calls())

    @property
    def same_model_demo(self) -> bool:
        """Whether the answer comes, in part, from a cloud whose model is the device's own."""
        return any(leg.same_model_demo for leg in self._told)

    @property
    def failure(self) -> str:
        """The kind of what went wrong with the answer as a whole; empty: nothing did."""
        if self.status is Status.OK:
            return ""
        return self.error_kind or self.status.value

    @property
    def changed_tier(self) -> bool:
        """Whether the other tier took over."""
        return not {Reason.FELL_BACK, Reason.HANDED_OVER}.isdisjoint(self.reasons)

    def start(self, target: Target, *, expected_prompt_tokens: int = 0) -> Leg:
        """A tier sets to work."""
        name = "answer on the device" if target is Target.EDGE else "answer in the cloud"
        kind = Kind.INTERNAL if target is Target.EDGE else Kind.CLIENT
        leg = Leg(target, expected_prompt_tokens, span=self.span.child(name, kind))
        self.legs.append(leg)
        return leg

    def id_in_cloud(self, leg: Leg) -> str:
        """What the gateway knows this leg by: another body needs another id there."""
        cloud = [one for one in self.legs if one.target is Target.CLOUD]
        nth = next(number for number, one in enumerate(cloud, 1) if one is leg)
        first = self.request.request_id
        return first if nth == 1 else f"{first}/{nth}"

    def left(
        self, leg: Leg, data: bytes, labels: Mapping[str, int], privacy_class: PrivacyClass
    ) -> None:
        """The bytes of a request leave for the cloud, with so many placeholders in them."""
        leg.sent_bytes += len(data)
        self.sent.append(Sent.of(data))
        self.redacted = dict(labels)
        self.privacy_class = privacy_class
        if privacy_class is PrivacyClass.REDACTED:
            self.note(Reason.PRIVACY_REDACTED)

    def note(self, reason: Reason) -> None:
        """Add a reason, once."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def show(self, leg: Leg, delta: Delta) -> bool:
        """Note a piece of the answer; whether there is anything in it for the client."""
        leg.shown_tokens += delta.tokens
        if not (delta.text or delta.tool_calls or delta.logprobs):
            return False
        self.route = leg.target
        self.last_token_s = time.monotonic()
        if self.first_token_s is None:
            self.first_token_s = self.last_token_s
            self.span.event("first token")
        if delta.text:
            self._pieces.append(delta.text)
        for piece in delta.tool_calls:
            call = self._tool_calls.setdefault(piece.index, ["", "", ""])
            call[0] += piece.id
            call[1] += piece.name
            call[2] += piece.arguments
        return True

    def end(self, status: Status, error: IsthmusError | None = None) -> None:
        """The request is over, once."""
        if self.ended_s is not None:
            return
        self.ended_s = time.monotonic()
        self.status = status
        for leg in self.legs:
            if leg.end is LegEnd.RUNNING:
                leg.end = LegEnd.STOPPED if error is None else LegEnd.FAILED
        if error is not None:
            self.error_kind = error.kind
            if isinstance(error, _REFUSALS):
                self.status = Status.REFUSED

    @property
    def _told(self) -> list[Leg]:
        """The legs that the answer is made of; before there is any, the one that works on it."""
        return [leg for leg in self.legs if leg.in_answer] or self.legs[-1:]

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer, by whoever computed them."""
        return sum(leg.shown_tokens + leg.accepted_tokens for leg in self.legs)

    @property
    def usage(self) -> Usage:
        """The answer's usage as the client is told: the prompt counts once, by who began it."""
        if not self.legs:
            return Usage()
        # A tier that goes on from a text counts that text as prompt too.
        told = next((leg for leg in self._told if leg.prompt_tokens), self.legs[-1])
        return Usage(told.prompt_tokens, self.completion_tokens, told.cached_tokens)

    @property
    def model(self) -> str:
        """The model that answered (last)."""
        return self._told[-1].model if self.legs else ""

    @property
    def edge_leg(self) -> Leg | None:
        """The device's share of the answer; None when it had none."""
        return next((leg for leg in self.legs if leg.target is Target.EDGE), None)

    def usage_by_target(self) -> dict[Target, Usage]:
        """What each tier computed."""
        total: dict[Target, Usage] = {}
        for leg in self.legs:
            known, new = total.get(leg.target, Usage()), leg.usage
            total[leg.target] = Usage(
                known.prompt_tokens + new.prompt_tokens,
                known.completion_tokens + new.completion_tokens,
                known.cached_tokens + new.cached_tokens,
            )
        return total

    @property
    def price_micro_usd(self) -> int:
        """What the cloud's work costs, whether it is in the answer or was overtaken."""
        return sum(self.price_of(leg) for leg in self.legs)

    def price_of(self, leg: Leg) -> int:
        """What one leg costs, in millionths of a dollar."""
        return self.cloud_price.cost_micro_usd(leg.billed)

    @property
    def saved_micro_usd(self) -> int:
        """What the whole answer would have cost in the cloud, less what was paid."""
        if not self.completion_tokens:
            return 0
        return max(0, self.cloud_price.cost_micro_usd(self.usage) - self.price_micro_usd)

    @property
    def ttft_ms(self) -> float | None:
        """From the request's arrival to the first piece of its answer."""
        first_s, _ = self._seen_s
        return None if first_s is None else (first_s - self.began_s) * 1000

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first."""
        first_s, last_s = self._seen_s
        if first_s is None or last_s is None or self.completion_tokens < 2:
            return None
        return (last_s - first_s) * 1000 / (self.completion_tokens - 1)

    @property
    def tokens_per_s(self) -> float | None:
        """How fast the answer's last leg wrote, whether or not the client saw it grow."""
        tpot_ms = self._told[-1].tpot_ms if self.legs else None
        return 1000 / tpot_ms if tpot_ms else None

    @property
    def _seen_s(self) -> tuple[float | None, float | None]:
        """When the first and the last piece of the answer came.

        To a client that waits for the whole they come at once: then they count from when they were
        written.
        """
        if self.streams:
            return self.first_token_s, self.last_token_s
        told = [leg for leg in self._told if leg.first_token_s is not None]
        if not told:
            return None, None
        return told[0].first_token_s, told[-1].last_token_s

    @property
    def total_ms(self) -> float:
        """From the request's arrival to its end, or to now."""
        return ((self.ended_s or time.monotonic()) - self.began_s) * 1000

    def receipt(self, content_hmac: str) -> Receipt:
        """What the device signs."""
        return Receipt(
            request_id=self.request.request_id,
            at_unix_s=self.at_unix_s,
            made_by=tuple(leg.target.value for leg in self.legs if leg.in_answer),
            status=self.status.value,
            privacy_class=self.privacy_class.value,
            policy=self.policy,
            labels=self.treatments(),
            sent=tuple(self.sent),
            content_hmac=content_hmac,
        )

    def treatments(self) -> dict[str, dict[Treatment, int]]:
        """What became of the values that were found, by label."""
        return {label: self._treatments(label) for label in {*self.found, *self.redacted}}

    def _treatments(self, label: str) -> dict[Treatment, int]:
        found, redacted = self.found.get(label, 0), self.redacted.get(label, 0)
        if not self.sent:
            return {"stayed": found}
        counts: dict[Treatment, int] = {"redacted": redacted, "allowed": max(0, found - redacted)}
        return {treatment: count for treatment, count in counts.items() if count}

    def expected_quality(self, target: Target) -> float | None:
        """How probably `target`'s answer is good enough, as the decision took it."""
        return None if self.decision is None else self.decision.scores.get(f"{target}.quality")

    def leg_rows(self) -> tuple[LegRow, ...]:
        """For the ledger: a row for each leg, in order."""
        return tuple(
            (
                self.request.request_id,
                number,
                leg.target.value,
                leg.end.value,
                leg.model,
                leg.prompt_tokens,
                leg.completion_tokens,
                leg.dropped_tokens,
                leg.accepted_tokens,
                leg.sent_bytes,
                self.price_of(leg),
                leg.error_kind,
            )
            for number, leg in enumerate(self.legs)
        )

    def outcome(self) -> Outcome:
        """For the ledger and the metrics."""
        return Outcome(
            request_id=self.request.request_id,
            at_unix_s=self.at_unix_s,
            route=self.route,
            reasons=tuple(self.reasons),
            status=self.status,
            privacy_class=self.privacy_class,
            model=self.model,
            usage=self.usage,
            ttft_ms=self.ttft_ms,
            tpot_ms=self.tpot_ms,
            total_ms=self.total_ms,
            price_micro_usd=self.price_micro_usd,
            saved_micro_usd=self.saved_micro_usd,
            error_kind=self.error_kind,
            expected_quality=self.expected_quality(self.route),
            agreement=self.agreement,
            regret_micro_usd=self.regret_micro_usd,
        )

"""The events of an answer on the wire."""

from __future__ import annotations

from isthmus.core import events
from isthmus.core.money import Usage
from isthmus.core.wire import enums
from isthmus.core.wire.outcomes import usage_from_wire, usage_to_wire
from isthmus.v1 import gateway_pb2


def event_to_wire(event: events.Event) -> tuple[gateway_pb2.GenerateResponse, ...]:
    """The messages for `event`: one, or two for `Finished` (usage, then the end)."""
    response = gateway_pb2.GenerateResponse
    match event:
        case events.Started():
            started = gateway_pb2.Started(
                model=event.model,
                prompt_tokens=event.prompt_tokens,
                cached_tokens=event.cached_tokens,
                same_model_demo=event.same_model_demo,
                draft=None if event.draft is None else _verdict_to_wire(event.draft),
                anew=event.anew,
            )
            return (response(started=started),)
        case events.Delta():
            return (_delta_to_wire(event),)
        case events.Finished():
            finished = gateway_pb2.Finished(reason=enums.FINISH_REASONS[event.reason])
            return response(usage=usage_to_wire(event.usage)), response(finished=finished)


class EventReader:
    """Reads the events of one stream; it remembers the usage until the end comes."""

    def __init__(self) -> None:
        self._usage = Usage()

    def read(self, wire: gateway_pb2.GenerateResponse) -> events.Event | None:
        """The event of a message, or `None` for one that says nothing yet or is not known here.

        An `error` event is not read here: see `errors.error_from_wire`.
        """
        match wire.WhichOneof("event"):
            case "started":
                started = wire.started
                return events.Started(
                    model=started.model,
                    prompt_tokens=started.prompt_tokens,
                    cached_tokens=started.cached_tokens,
                    same_model_demo=started.same_model_demo,
                    draft=_verdict_from_wire(started),
                    anew=started.anew,
                )
            case "delta":
                return _delta_from_wire(wire.delta)
            case "usage":
                self._usage = usage_from_wire(wire.usage)
                return None
            case "finished":
                # A newer gateway's reason is as good as none: the answer is whole all the same.
                known = {number: name for name, number in enums.FINISH_REASONS.items()}
                reason = known.get(wire.finished.reason, events.FinishReason.STOP)
                return events.Finished(reason, self._usage)
            case _:
                return None


def _delta_to_wire(event: events.Delta) -> gateway_pb2.GenerateResponse:
    # Field by field, in place: every token has such a message, and this takes a quarter of the time
    # that building it from parts does.
    message = gateway_pb2.GenerateResponse()
    delta = message.delta
    delta.SetInParent()
    delta.text = event.text
    delta.tokens = event.tokens
    for one in event.logprobs:
        delta.logprobs.add(chosen=_logprob_to_wire(one), top=[_logprob_to_wire(t) for t in one.top])
    for call in event.tool_calls:
        delta.tool_calls.add(
            index=call.index, id=call.id, name=call.name, arguments_json=call.arguments
        )
    return message


def _delta_from_wire(wire: gateway_pb2.Delta) -> events.Delta:
    return events.Delta(
        text=wire.text,
        tokens=wire.tokens,
        logprobs=tuple(
            events.TokenLogprob(
                token=one.chosen.token,
                logprob=one.chosen.logprob,
                raw=one.chosen.raw,
                top=tuple(events.TopLogprob(t.token, t.logprob, t.raw) for t in one.top),
            )
            for one in wire.logprobs
        ),
        tool_calls=tuple(
            events.ToolCallDelta(call.index, call.id, call.name, call.arguments_json)
            for call in wire.tool_calls
        ),
    )


def _verdict_to_wire(verdict: events.DraftVerdict) -> gateway_pb2.DraftVerdict:
    return gateway_pb2.DraftVerdict(
        judged=verdict.judged,
        accepted_bytes=verdict.accepted_bytes,
        accepted_tokens=verdict.accepted_tokens,
        tokens=verdict.tokens,
    )


def _verdict_from_wire(started: gateway_pb2.Started) -> events.DraftVerdict | None:
    if not started.HasField("draft"):
        return None
    wire = started.draft
    return events.DraftVerdict(wire.judged, wire.accepted_bytes, wire.accepted_tokens, wire.tokens)


def _logprob_to_wire(one: events.TopLogprob) -> gateway_pb2.TopLogprob:
    return gateway_pb2.TopLogprob(token=one.token, logprob=one.logprob, raw=one.raw)

"""Bytes of an OpenAI-compatible stream become events, and events become pieces of an answer."""

from __future__ import annotations

import json

import pytest

from isthmus.cloud.backends.openai_stream import Answer, ServerSentEvents
from isthmus.core import errors, events
from isthmus.core.money import Usage
from openai_upstream import chunk


def test_events_that_come_together_are_one_piece():
    events_of = [chunk("a"), chunk("b"), chunk("c"), chunk(finish="stop")]
    answer = Answer()
    delta, failure = answer.read([json.dumps(one).encode() for one in events_of])
    assert (delta, failure) == (events.Delta("abc", 3), None)
    assert answer.end() == events.Finished(events.FinishReason.STOP, Usage(0, 3))


def test_what_came_before_an_error_in_one_piece_is_told():
    answer = Answer()
    delta, failure = answer.read([json.dumps(chunk("a")).encode(), b'{"error": {"code": 500}}'])
    assert delta == events.Delta("a")
    assert isinstance(failure, errors.Unavailable)


def test_events_are_found_however_the_bytes_are_cut():
    raw = (
        'data: {"a":"é"}\r\n\r\n: note\n\ndata: 1\ndata: 2\n\ndata: [DONE]\n\ndata: x\n\n'.encode()
    )

    for size in (1, 2, 7, len(raw)):
        events = ServerSentEvents()
        pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
        assert [data for piece in pieces for data in events.feed(piece)] == [
            '{"a":"é"}'.encode(),
            b"1\n2",
        ]
        assert events.ended


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_event():
    assert ServerSentEvents().feed(b"\xef\xbb\xbfdata: 1\n\n") == [b"1"]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 2**16, b"data: " + b"x" * 2**16 + b"\n"])
def test_an_event_without_an_end_is_given_up(piece):
    reader = ServerSentEvents()
    for _ in range(100):
        reader.feed(piece)
    with pytest.raises(errors.Unavailable):
        any(reader.feed(piece) for _ in range(100))

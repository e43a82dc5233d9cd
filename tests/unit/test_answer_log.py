"""What a reader takes from an answer's log is the answer, whatever its pace and its place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.cloud.answers.log import Log, Place
from isthmus.core.events import Delta, DraftVerdict, TokenLogprob, ToolCallDelta

texts = st.text("aé漢😀 ", max_size=4)
pieces = st.lists(st.builds(Delta, texts, st.integers(0, 3)), max_size=120)


def logged(deltas, **begun):
    log = Log(**begun)
    for delta in deltas:
        log.add(delta)
    return log


def read(log, place):
    taken = []
    while (more := log.after(place)) is not None:
        delta, place = more
        taken.append(delta)
    return taken


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def tokens_of(deltas):
    return sum(delta.tokens for delta in deltas)


@given(pieces, st.lists(st.integers(1, 50)))
def test_a_reader_gets_every_piece_once_whenever_it_looks(deltas, looks):
    log, place, taken = Log(), Place(), []
    for turn, delta in enumerate(deltas):
        log.add(delta)
        if turn in looks and (more := log.after(place)) is not None:
            taken.append(more[0])
            place = more[1]
    taken += read(log, place)
    assert (text_of(taken), tokens_of(taken)) == (text_of(deltas), tokens_of(deltas))
    assert log.text == text_of(deltas)


@given(pieces, st.integers(0, 200))
def test_nothing_of_what_was_received_comes_again_and_nothing_else_is_missing(deltas, chars):
    log, whole = logged(deltas), text_of(deltas)
    received = whole[:chars]
    tokens = min(len(received), tokens_of(deltas))
    place = log.behind(received, tokens)
    assert place is not None
    rest = read(log, place)
    assert received + text_of(rest) == whole
    assert tokens + tokens_of(rest) == tokens_of(deltas)


@given(pieces)
def test_a_piece_that_holds_others_is_never_larger_than_the_ledger_may_lag(deltas):
    assert all(delta.tokens <= 32 for delta in read(logged(deltas), Place()))


def test_a_text_that_the_answer_does_not_begin_with_has_no_place_in_it():
    log = logged([Delta("Paris is")])
    assert log.behind("Rome", 1) is None
    assert log.behind("Paris is the", 3) is None


def test_log_probabilities_and_tool_calls_go_with_their_pieces():
    one, two = (TokenLogprob(text, -0.1, text.encode()) for text in "ab")
    call = ToolCallDelta(0, "c", "f", "{}")
    log = logged([Delta("a", logprobs=(one,)), Delta("b", logprobs=(two,))])
    log.add(Delta("", tool_calls=(call,)))
    (all_of_it,) = read(log, Place())
    assert all_of_it == Delta("ab", 3, (one, two), (call,))
    (rest,) = read(log, log.behind("a", 1))
    assert (rest.text, rest.logprobs, rest.tool_calls) == ("b", (two,), (call,))
    assert log.has_tool_calls


def test_what_stands_of_a_draft_is_in_the_answer_and_not_read_again():
    log = Log()
    log.stands(DraftVerdict(True, len(" is thé".encode()), 2, 4), " is thé end")
    log.add(Delta(" capital"))
    assert log.text == " is thé capital"
    assert text_of(read(log, log.begin)) == " capital"


def test_what_another_gateway_wrote_is_the_beginning():
    log = logged([Delta(" two")], received="one", tokens=1)
    assert log.text == "one two"
    assert log.last.tokens == 2

"""Stop strings in a stream of pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.engine.answer import StopFilter


def test_text_before_a_stop_string_is_shown_and_the_rest_is_not() -> None:
    stops = StopFilter(("END",))
    assert stops.push("one EN") == ("one ", False)
    assert stops.push("D two") == ("", True)


def test_what_only_looked_like_a_stop_string_is_shown_after_all() -> None:
    stops = StopFilter(("END",))
    assert stops.push("EN") == ("", False)
    assert stops.push("T") == ("ENT", False)
    assert stops.push("E") == ("", False)
    assert stops.flush() == "E"


def test_the_first_of_several_stop_strings_wins() -> None:
    assert StopFilter(("b", "ab")).push("xxab") == ("xx", True)


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopFilter(()).push("anything") == ("anything", False)
    assert StopFilter(("",)).push("anything") == ("anything", False)


@given(
    pieces=st.lists(st.text("abE", max_size=4), max_size=20),
    stops=st.lists(st.text("abE", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_any_split_of_a_text_shows_what_stands_before_the_first_stop(
    pieces: list[str], stops: list[str]
) -> None:
    stream = StopFilter(tuple(stops))
    shown, found = "", False
    for piece in pieces:
        text, found = stream.push(piece)
        shown += text
        if found:
            break
    if not found:
        shown += stream.flush()
    whole = "".join(pieces)
    places = [at for at in (whole.find(stop) for stop in stops) if at >= 0]
    assert found == bool(places)
    if found:
        # A stop that ends earlier is seen first, even where another begins before it.
        assert whole.startswith(shown)
        assert any(whole.startswith(stop, len(shown)) for stop in stops)
    else:
        assert shown == whole

"""Restoring answers: whole, in pieces cut anywhere, and as models edit placeholders."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filled_vault import ADDRESS, PERSON, PHONE, PLACEHOLDERS, VALUES, VAULT
from isthmus.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    TextPart,
)
from isthmus.core.events import Delta, TokenLogprob, ToolCallDelta
from isthmus.privacy.restore import AnswerRestorer, TextRestorer, restore
from isthmus.privacy.vault import Vault

CODE = PERSON[-5:-1]


def streamed(text: str, cuts: Sequence[int], *, in_json: bool = False) -> str:
    restorer = TextRestorer(VAULT, in_json=in_json)
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    return "".join(map(restorer.feed, pieces)) + restorer.flush()


def swapped(brackets: str) -> Callable[[str], str]:
    return lambda p: f"{brackets[0]}{p[1:-1]}{brackets[1]}"


def marked(mark: str) -> Callable[[str], str]:
    return lambda p: f"[{p[1:-6]}{mark}{p[-5:]}"


EDITS: dict[str, Callable[[str], str]] = {
    # Seen in answers of Qwen2.5-Coder-1.5B and SmolLM2-135M to the tasks of `placeholder.py`.
    "as it was": lambda p: p,
    "no brackets": lambda p: p[1:-1],
    "the code alone": lambda p: p[-5:-1],
    "the code alone in brackets": lambda p: f"[{p[-5:-1]}]",
    "Chinese brackets": swapped("【】"),
    "Chinese brackets, the code alone": lambda p: f"【{p[-5:-1]}】",
    "label and code as words": lambda p: p[1:-1].replace("_", " "),
    "label in lower case": lambda p: p.lower(),
    # Common in larger models' answers.
    "capitals": str.upper,
    "title case": str.title,
    "angle brackets": swapped("<>"),
    "braces": swapped("{}"),
    "full-width brackets": swapped("［］"),
    "mathematical brackets": swapped("⟦⟧"),
    "tortoise-shell brackets": swapped("〔〕"),
    "spaces inside": lambda p: f"[ {p[1:-1]} ]",
    "no-break spaces inside": lambda p: f"[\u00a0{p[1:-1]}\u202f]",
    "a hyphen": marked("-"),
    "a no-break hyphen": marked("\u2011"),
    "a dash": marked("\u2013"),
    "a minus": marked("\u2212"),
    "a middle dot": marked("·"),
    "a space": marked(" "),
    "a colon": marked(": "),
    "a hash": marked("#"),
    "no mark": marked(""),
    "a spaced hyphen": marked(" - "),
    "every mark a hyphen": lambda p: p.replace("_", "-"),
    "every mark a space": lambda p: p.replace("_", " "),
    "Markdown's escapes": lambda p: p.replace("_", r"\_").replace("[", r"\[").replace("]", r"\]"),
    "Markdown's escaped underscore": lambda p: p.replace("_", r"\_"),
    "a URL's escapes": lambda p: f"%5B{p[1:-1]}%5D",
    "a translated label": lambda p: f"[姓名_{p[-5:-1]}]",
    "another label": lambda p: f"[NAME_{p[-5:-1]}]",
    "a zero-width space": lambda p: f"[{p[1:-6]}_\u200b{p[-5:]}",
}

AROUND = [
    ("", ""),
    ("Dear ", ","),
    ("**", "**"),
    ("`", "`"),
    ('"', '"'),
    ("| ", " |"),
    ("亲爱的", "先生"),
    ("(", ")"),
    ("a [list] of ", " [and] more"),
    ("- ", "\n"),
    ("'", "'s"),
]


@pytest.mark.parametrize("edit", EDITS)
def test_placeholders_come_back_as_models_edit_them(edit: str) -> None:
    wrong = []
    for placeholder, value in zip(PLACEHOLDERS, VALUES.values(), strict=True):
        for before, after in AROUND:
            text = before + EDITS[edit](placeholder) + after
            if restore(text, VAULT) != before + value + after:
                wrong.append(text)
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "No placeholder at all: [1], [text](https://example.org), a[0], {x}, <b>, 50%, \\[",
        f"{PERSON[:-1]}5]",
        f"x{CODE}",
        f"{CODE}7",
        "[PERSON_",
        "[PERSON]",
        "Person",
        "The phone is new. Persons phone: k",
        "[[[[[[[[[[",
        "%5B%5B%5",
        "\\\\\\",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert restore(text, VAULT) == text


def test_the_name_of_a_field_is_not_taken_for_the_label_of_a_placeholder() -> None:
    assert restore(f"Phone: {PHONE}, Person: {PERSON[1:-1]}", VAULT) == (
        "Phone: 555-0100, Person: Jane Doe"
    )
    assert restore(f"[{PERSON}, {PHONE}]", VAULT) == "[Jane Doe, 555-0100]"


pieces = st.lists(
    st.one_of(
        st.sampled_from([edit(p) for edit in EDITS.values() for p in PLACEHOLDERS]),
        st.sampled_from([p[:n] for p in PLACEHOLDERS for n in range(1, len(p))]),
        st.sampled_from([*"[]{}<>【】\\%5Bb_- ·pPkK3", "\n", "%5D", "  ", "\\\\"]),
        st.sampled_from(["![](", "https://evil.test/?q=", "://", "src='", ")", '"', "]: ", "](<"]),
        st.text(max_size=6),
    ),
    max_size=8,
).map("".join)


@given(pieces, st.booleans())
def test_a_stream_cut_at_every_position_is_the_text_restored(text: str, in_json: bool) -> None:
    whole = restore(text, VAULT, in_json=in_json)
    for cut in range(len(text) + 1):
        assert streamed(text, [cut], in_json=in_json) == whole
    assert streamed(text, range(len(text)), in_json=in_json) == whole


@given(pieces)
def test_what_was_given_is_never_taken_back(text: str) -> None:
    restorer = TextRestorer(VAULT)
    whole = restore(text, VAULT)
    given = ""
    for char in text:
        given += restorer.feed(char)
        assert whole.startswith(given)


@pytest.mark.parametrize(
    "text", ["Hello", "see [1", "a [b] c", "[click here", "is 5 < 6 and", "x = {y: 1"]
)
def test_nothing_is_held_back_that_cannot_become_a_placeholder(text: str) -> None:
    restorer = TextRestorer(VAULT)
    assert restorer.feed(text + "; ") == text + "; "


def test_at_most_a_placeholder_is_held_back() -> None:
    restorer = TextRestorer(VAULT)
    assert restorer.feed(f"Dear {PERSON[:-1]}") == "Dear "
    assert restorer.feed("], hello") == "Jane Doe, hello"


def test_an_empty_vault_holds_nothing_back() -> None:
    assert TextRestorer(Vault()).feed("[PERSON_") == "[PERSON_"


REQUEST = ChatRequest("r", ())


def shown(restorer: AnswerRestorer, deltas: Sequence[Delta]) -> list[Delta]:
    given = [restorer.feed(delta) for delta in deltas]
    last = restorer.flush()
    return given if last is None else [*given, last]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_arguments_of_tool_calls_are_restored_as_json(size: int) -> None:
    texts = [json.dumps({"to": ADDRESS, "n": [PHONE]}), json.dumps({"who": PERSON})]
    deltas = [
        Delta("", tool_calls=(ToolCallDelta(index, arguments=text[at : at + size]),))
        for index, text in enumerate(texts)
        for at in range(0, len(text), size)
    ]
    arguments = ["", ""]
    for delta in shown(AnswerRestorer(REQUEST, VAULT), deltas):
        for call in delta.tool_calls:
            arguments[call.index] += call.arguments
    assert [json.loads(text) for text in arguments] == [
        {"to": VALUES["ADDRESS"], "n": ["555-0100"]},
        {"who": "Jane Doe"},
    ]


def test_an_answer_in_json_stays_json() -> None:
    form = ResponseFormat(ResponseKind.JSON_OBJECT)
    restorer = AnswerRestorer(ChatRequest("r", (), response_format=form), VAULT)
    text = "".join(d.text for d in shown(restorer, [Delta(json.dumps({"at": ADDRESS}))]))
    assert json.loads(text) == {"at": VALUES["ADDRESS"]}


@given(pieces, st.data())
def test_the_texts_of_log_probabilities_are_those_of_the_answer(
    text: str, data: st.DataObject
) -> None:
    """However the text is cut into tokens (of bytes) and the tokens into deltas."""
    raw = text.encode()
    edges = data.draw(st.lists(st.integers(0, len(raw)), max_size=12).map(sorted))
    deltas, sent = [], 0
    for a, b in zip([0, *edges], [*edges, len(raw)], strict=True):
        # As engines do: a delta holds whole characters only.
        ready = len(raw[:b].decode(errors="ignore"))
        token = TokenLogprob(raw[a:b].decode(errors="replace"), -0.5, raw[a:b])
        deltas.append(Delta(text[sent:ready], logprobs=(token,)))
        sent = ready
    given = shown(AnswerRestorer(REQUEST, VAULT), deltas)
    entries = [entry for delta in given for entry in delta.logprobs]
    assert "".join(delta.text for delta in given) == restore(text, VAULT)
    assert sum(entry.logprob for entry in entries) == pytest.approx(-0.5 * (len(edges) + 1))
    assert b"".join(entry.raw for entry in entries).decode(errors="replace") == restore(text, VAULT)


def test_a_placeholders_tokens_become_one_entry() -> None:
    tokens = ["Dear ", PERSON[:4], PERSON[4:], ","]
    deltas = [Delta(t, logprobs=(TokenLogprob(t, -1.0, t.encode()),)) for t in tokens]
    given = shown(AnswerRestorer(REQUEST, VAULT), deltas)
    entries = [(entry.token, entry.logprob) for delta in given for entry in delta.logprobs]
    assert entries == [("Dear ", -1.0), ("Jane Doe", -2.0), (",", -1.0)]


def restored(text: str, codes: Sequence[str], *, said: str = "", cut: int = 0) -> str:
    restorer = TextRestorer(VAULT, only=codes, said=said)
    return restorer.feed(text[:cut]) + restorer.feed(text[cut:]) + restorer.flush()


CODES = [placeholder[-5:-1] for placeholder in PLACEHOLDERS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dear [PERSON], hello", "Dear Jane Doe, hello"),
        ("Dear [Person]", "Dear Jane Doe"),
        ("[Person][PHONE]", None),
        ("Card: [BANK CARD].", "Card: 4111 1111 1111 1111."),
        ("Card: [Bank Card] [BANK_CARD", "Card: 4111 1111 1111 1111 [BANK_CARD"),
        ("Call [phone] or row[PHONE] or [Phone](https://x.org) or [Phone]: x", None),
        ("[PERSONS] [Name] <PERSON> {PERSON}", None),
    ],
)
def test_a_label_without_its_code_is_its_one_value_wherever_the_stream_is_cut(
    text: str, expected: str | None
) -> None:
    for cut in range(len(text) + 1):
        assert restored(text, CODES, cut=cut) == (text if expected is None else expected)


def test_a_label_without_its_code_stays_where_it_may_mean_two_values() -> None:
    vault = Vault(random.Random(3).choice)
    codes = [vault.add("PERSON", name)[-5:-1] for name in ("Jane Doe", "John Roe")]
    restorer = TextRestorer(vault, only=codes)
    assert restorer.feed("Dear [PERSON] and all") + restorer.flush() == "Dear [PERSON] and all"


def test_a_label_of_the_user_s_own_text_or_that_did_not_leave_stays() -> None:
    assert restored("Dear [Person]", CODES, said="fill in Dear [person], …") == "Dear [Person]"
    assert restored("Dear [Person]", [PHONE[-5:-1]]) == "Dear [Person]"


def test_an_answer_restores_a_label_alone_unless_the_request_has_it() -> None:
    for said, shown in (("Write to [PERSON_x]", "Jane Doe"), ("Fill in [PERSON]", "[PERSON]")):
        request = ChatRequest("r", (Message(Role.USER, (TextPart(said),)),))
        restorer = AnswerRestorer(request, VAULT, CODES)
        given = restorer.feed(Delta("Dear [PERSON]")).text
        rest = restorer.flush()
        assert given + (rest.text if rest else "") == f"Dear {shown}"

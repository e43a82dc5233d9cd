"""The last look at the bytes: no value in any form, and no alarm over what only looks alike."""

from __future__ import annotations

import base64
import html
import json
import quopri
import random
import re
from collections.abc import Sequence
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core import wire
from isthmus.core.chat import ChatRequest, Message, Role, TextPart, ToolCall
from isthmus.privacy.base import Span
from isthmus.privacy.egress import EgressBlocked, check
from isthmus.privacy.redact import redact
from isthmus.privacy.vault import Vault

VALUES = {
    "PERSON": "Jane O'Brien",
    "NAME_ZH": "欧阳娜娜",
    "PHONE": "+1 (555) 010-0199",
    "EMAIL": "jane+x@example.org",
    "ADDRESS": 'Flat "B"\n12 Rose Street',
    "SHORT": "Ann",
    "PIN": "4711",
}

FORMS = {
    "as it is": lambda v: v,
    "JSON": json.dumps,
    "JSON without escapes": lambda v: json.dumps(v, ensure_ascii=False),
    "JSON in JSON": lambda v: json.dumps(json.dumps(v, ensure_ascii=False), ensure_ascii=False),
    "a URL": quote,
    "a form": quote_plus,
    "full width": lambda v: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in v),
}
LOOSE = {
    "capitals": str.upper,
    "no spaces": lambda v: re.sub(r"\s", "", v),
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 of more": lambda v: base64.b64encode(f"x{v}yz".encode()).decode(),
    "URL-safe base64": lambda v: base64.urlsafe_b64encode(f"??{v}>>>".encode()).decode(),
    "base64 in lines": lambda v: base64.encodebytes(b"-" * 70 + v.encode() + b"." * 70).decode(),
    "hex": lambda v: v.encode().hex(),
    "capital hex of more": lambda v: f"x{v}".encode().hex().upper(),
    "a URL in a URL": lambda v: quote(quote(v)),
    "a URL in HTML": lambda v: html.escape("".join(f"&#{ord(c)};" for c in v)),
    "Python's escapes": lambda v: "".join(
        f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{{{ord(c):x}}}" for c in v
    ),
    "quoted-printable": lambda v: quopri.encodestring(v.encode()).decode(),
    "in a longer word": lambda v: f"a{v}b",
}
CASES = [
    (label, form)
    for label in VALUES
    for form in FORMS
    if (label, form)
    not in {("ADDRESS", "JSON in JSON"), ("SHORT", "full width"), ("PIN", "full width")}
]
CASES += [(label, form) for label in ("NAME_ZH", "PHONE", "EMAIL", "ADDRESS") for form in LOOSE]


def vault() -> Vault:
    kept = Vault(random.Random(3).choice)
    for label, value in VALUES.items():
        kept.add(label, value)
    return kept


def leaving(text: str) -> bytes:
    call = ToolCall("1", "f", text)
    request = ChatRequest("r", (Message(Role.ASSISTANT, (TextPart("Hello"),), tool_calls=(call,)),))
    return wire.request_to_wire(request).SerializeToString()


@pytest.mark.parametrize(("label", "form"), CASES)
@pytest.mark.parametrize("text", ["{}", "it is {}.", '{{"a": "{}"}}'])
def test_a_value_is_stopped_in_every_form(label: str, form: str, text: str) -> None:
    written = (FORMS | LOOSE)[form](VALUES[label])
    with pytest.raises(EgressBlocked) as blocked:
        check(leaving(text.format(written)), vault())
    assert set(blocked.value.labels) == {label}
    assert label in blocked.value.message
    assert VALUES[label] not in blocked.value.message


@pytest.mark.parametrize(
    "text",
    ["Annual plans, Joanna", "the number 147112", "A jane and a brien", "Rose Street 12", ""],
)
def test_what_only_looks_alike_may_leave(text: str) -> None:
    check(leaving(text), vault())


def test_nothing_is_looked_for_without_values() -> None:
    check(leaving("Jane O'Brien"), Vault())


CHARS = st.sampled_from("ab12 -.()@'\"\\/%+é王\n")


@given(st.lists(st.text(CHARS, min_size=2, max_size=12), min_size=1, max_size=5), st.data())
def test_what_was_redacted_passes_the_last_look(values: list[str], data: st.DataObject) -> None:
    words = [*values, "please write a long letter about it"]
    text = " and ".join(data.draw(st.permutations(words)))
    alternatives = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))

    def scan(scanned: str) -> Sequence[Span]:
        return [Span(*m.span(), "VALUE", 1.0) for m in re.finditer(alternatives, scanned)]

    kept = Vault(random.Random(1).choice)
    request = ChatRequest(
        "r",
        (
            Message(Role.USER, (TextPart(text),)),
            # The bracket keeps what the first message ends with from going on here.
            Message(Role.USER, (TextPart("(Write it long, please.)"),)),
        ),
    )
    result = redact(request, kept, scan, lambda label: True)
    check(wire.request_to_wire(result.request).SerializeToString(), kept)

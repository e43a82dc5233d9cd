"""The page's words: complete in both languages, for all that the program may tell the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from isthmus.core.chat import PrivacyClass, RouteMode
from isthmus.core.decision import Reason, Target
from isthmus.edge.breaker import BreakerState
from isthmus.edge.device import DeviceState
from isthmus.edge.leg import LegEnd
from isthmus.edge.page import files
from isthmus.edge.page.live import WINDOWS
from isthmus.privacy.base import Label
from isthmus.privacy.policy import PRESETS
from isthmus.router.presets import Preset

WEB = files.FOLDER


def words(language: str) -> dict[str, str]:
    return dict(json.loads((WEB / "i18n" / f"{language}.json").read_text(encoding="utf-8")))


def scripts() -> str:
    ours = (path for path in sorted(WEB.rglob("*.js")) if "lib" not in path.relative_to(WEB).parts)
    return "\n".join(path.read_text(encoding="utf-8") for path in ours)


# Of the errors that the page's own requests may meet; of the rest it says what the agent said.
CODES = (
    "invalid_api_key",
    "host_not_allowed",
    "origin_not_allowed",
    "conversation_not_found",
    "message_not_found",
    "setting_fixed",
    "request_too_large",
    "request_timeout",
    "context_length_exceeded",
    "not_supported",
    "overloaded",
    "deadline_exceeded",
    "unavailable",
    "internal_error",
)
TOLD = [
    *(f"reason.{one}" for one in Reason),
    *(f"class.{one}" for one in PrivacyClass),
    *(f"end.{one}" for one in LegEnd),
    *(f"tier.{one}" for one in Target),
    *(f"route.{one}" for one in RouteMode),
    *(f"label.{one}" for one in Label),
    *(f"state.{one}" for one in DeviceState),
    *(f"breaker.{one}" for one in BreakerState),
    *(f"window.{one}" for one in WINDOWS),
    *(f"preset.{one}{part}" for one in Preset for part in ("", "_text")),
    *(f"policy.{one}{part}" for one in PRESETS for part in ("", "_text")),
    *(f"error.{one}" for one in CODES),
]


def test_both_languages_have_the_same_words_with_the_same_places_to_fill() -> None:
    english, chinese = words("en"), words("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert text.strip(), key
        assert chinese[key].strip(), key


@pytest.mark.parametrize("key", TOLD)
def test_all_that_the_program_tells_has_words(key: str) -> None:
    assert key in words("en")


def test_the_scripts_ask_for_no_word_that_is_not_there() -> None:
    asked = set(re.findall(r'\bt(?:OrNull)?\(\s*"([^"]+)"', scripts()))
    assert len(asked) > 100
    assert asked - set(words("en")) == set()


def test_no_word_is_there_that_no_script_asks_for() -> None:
    text = scripts()
    families = set(re.findall(r"`([a-z_]+\.(?:[a-z]+\.)?)\$\{", text))
    unasked = {
        key
        for key in words("en")
        if f'"{key}"' not in text and not any(key.startswith(family) for family in families)
    }
    assert unasked == set()


def test_no_file_of_the_page_names_a_foreign_host() -> None:
    for path in [*WEB.rglob("*.js"), *WEB.rglob("*.css"), *WEB.rglob("*.html")]:
        if "lib" in path.relative_to(WEB).parts:
            continue
        found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", path.read_text("utf-8"))
        assert found == [], path.name


def test_every_module_that_is_imported_is_there() -> None:
    for path in WEB.rglob("*.js"):
        if "lib" in path.relative_to(WEB).parts:
            continue
        for target in re.findall(r'from "(\.[^"]+)"', path.read_text("utf-8")):
            assert (path.parent / target).resolve().is_file(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", sorted(WEB.rglob("*.css")), ids=lambda path: Path(path).name)
def test_every_style_is_loaded(path: Path) -> None:
    assert f'href="/ui/{path.relative_to(WEB)}"' in (WEB / "index.html").read_text("utf-8")

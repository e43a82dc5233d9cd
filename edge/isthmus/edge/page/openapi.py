"""The page's part of `GET /openapi.json`."""

from __future__ import annotations

from typing import Any

from isthmus.core.chat import Role, RouteMode
from isthmus.edge.openai_api import MAX_TOKENS
from isthmus.edge.openapi_forms import (
    ARRAY,
    FLAG,
    INTEGER,
    JSON_OBJECT,
    STRING,
    TEXT,
    Schema,
    array,
    integer,
    number,
    one_of,
    operation,
    or_null,
    record,
    ref,
    strict,
)
from isthmus.edge.page.live import WINDOWS
from isthmus.edge.page.messages import MAX_TITLE_CHARS, MessageStatus
from isthmus.edge.page.routes import MOST_LISTED
from isthmus.edge.page.settings import MOST_USD
from isthmus.privacy.policy import PRESETS
from isthmus.router.presets import Preset

_NUMBER: Schema = {"type": "number"}
_TITLE: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TITLE_CHARS}


def page_paths() -> dict[str, Any]:
    """What the page reads and writes."""
    conversations = record(object=STRING, data=array(ref("Conversation")), next=or_null(STRING))
    listing = {"limit": integer(1, MOST_LISTED), "before": STRING, "q": STRING}
    deleted = record(deleted=INTEGER)
    one: dict[str, Any] = {"path": "conversation"}
    titled = strict({}, {"title": _TITLE})
    changed = strict({}, {"title": _TITLE, "head": STRING})
    rated = strict({"rating": integer(-1, 1)}, {})
    window = {"window": one_of(*WINDOWS)}
    return {
        "/v1/isthmus/conversations": {
            "get": operation("Conversations, the latest first", conversations, query=listing),
            "post": operation(
                "Begin a conversation", ref("Conversation"), takes=titled, status="201"
            ),
            "delete": operation("Delete all conversations", deleted),
        },
        "/v1/isthmus/conversations/{conversation}": {
            "get": operation("A conversation and its messages", ref("Conversation"), **one),
            "patch": operation(
                "Another title, or another branch", ref("Conversation"), takes=changed, **one
            ),
            "delete": operation("Delete a conversation", deleted, **one),
        },
        "/v1/isthmus/conversations/{conversation}/turns": {
            "post": operation(
                "Say something, or have an answer given again",
                record(data=STRING),
                takes=_turn(),
                kind="text/event-stream",
                **one,
            )
        },
        "/v1/isthmus/messages/{message}/rating": {
            "post": operation("Rate an answer", ref("StoredMessage"), takes=rated, path="message")
        },
        "/v1/isthmus/live": {"get": operation("The live picture", _live(), query=window)},
        "/v1/isthmus/settings": {
            "get": operation("The settings", ref("Settings")),
            "patch": operation("Change settings", ref("Settings"), takes=_wanted()),
        },
    }


def page_schemas() -> dict[str, Schema]:
    """What it gives."""
    fixed = {"type": "object", "additionalProperties": STRING}
    return {
        "Conversation": record(
            id=STRING,
            title=STRING,
            created_unix_s=_NUMBER,
            updated_unix_s=_NUMBER,
            head=or_null(STRING),
        ),
        "StoredMessage": record(
            id=STRING,
            parent=or_null(STRING),
            role=one_of(Role.USER.value, Role.ASSISTANT.value),
            content=STRING,
            at_unix_s=_NUMBER,
            status=one_of(*(status.value for status in MessageStatus)),
            error=or_null(record(code=STRING, message=STRING)),
            rating=integer(-1, 1),
            request_id=or_null(STRING),
            finish_reason=or_null(STRING),
            left_out=INTEGER,
            isthmus=or_null(JSON_OBJECT),
        ),
        "Settings": record(
            preset=one_of(*(preset.value for preset in Preset)),
            presets=array(record(name=STRING, summary=STRING, allowed=FLAG)),
            budget=record(day_usd=or_null(_NUMBER), month_usd=or_null(_NUMBER)),
            privacy=record(policy=one_of(*PRESETS), policies=array(STRING), consent=FLAG),
            fixed=fixed,
        ),
    }


def _turn() -> Schema:
    how = {
        "route": one_of(*(mode.value for mode in RouteMode)),
        "max_tokens": integer(1, MAX_TOKENS),
    }
    said = {"type": "string", "pattern": r"\S"}
    return {
        "anyOf": [
            strict({"content": said}, {"parent": TEXT, **how}),
            strict({"regenerate": TEXT}, how),
        ]
    }


def _wanted() -> Schema:
    limit = number(0, MOST_USD)
    return strict(
        {},
        {
            "preset": one_of(*(preset.value for preset in Preset)),
            "budget": strict({}, {"day_usd": limit, "month_usd": limit}),
            "privacy": strict({}, {"policy": one_of(*PRESETS), "consent": FLAG}),
        },
    )


def _live() -> Schema:
    return record(
        now_unix_s=_NUMBER,
        window_s=INTEGER,
        bucket_s=INTEGER,
        buckets=ARRAY,
        totals=JSON_OBJECT,
        latency=JSON_OBJECT,
        promises=ARRAY,
        last_error=or_null(JSON_OBJECT),
        money=JSON_OBJECT,
        privacy=JSON_OBJECT,
        device=JSON_OBJECT,
        cloud=JSON_OBJECT,
        in_flight=INTEGER,
    )

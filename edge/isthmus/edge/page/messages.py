"""What the page keeps of a conversation: a tree of messages, of which `head` is the latest leaf."""

from __future__ import annotations

import json
import secrets
import string
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isthmus.core.chat import Role

MAX_TITLE_CHARS = 200
_TITLE_CHARS = 60
_ID_CHARS = 20


class MessageStatus(StrEnum):
    """Where a message stands."""

    RUNNING = "running"
    """An answer that is being written."""
    DONE = "done"
    STOPPED = "stopped"
    """By the person, or since the one who asked went away."""
    FAILED = "failed"


def new_id() -> str:
    """Letters alone: the privacy scan would take digits for a number of something."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(_ID_CHARS))


@dataclass(slots=True)
class StoredMessage:
    """One message. An answer's parent is its question; an edited question is a sibling."""

    role: Role
    content: str
    parent: str | None
    status: MessageStatus = MessageStatus.DONE
    id: str = field(default_factory=new_id)
    at_unix_s: float = field(default_factory=time.time)
    error: dict[str, str | None] | None = None
    """`code` and `message`; no text of the user's."""
    rating: int = 0
    request_id: str | None = None
    finish_reason: str | None = None
    begins_at: str | None = None
    """The first message that the model was shown; None: all of them."""
    left_out: int = 0
    """How many of the oldest it was not shown, since they did not fit its context."""
    isthmus: dict[str, Any] | None = None
    """Where the answer was made, and why."""

    def json(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "id": self.id,
            "parent": self.parent,
            "role": self.role.value,
            "content": self.content,
            "at_unix_s": self.at_unix_s,
            "status": self.status.value,
            "error": self.error,
            "rating": self.rating,
            "request_id": self.request_id,
            "finish_reason": self.finish_reason,
            "left_out": self.left_out,
            "isthmus": self.isthmus,
        }

    def row(self) -> tuple[Any, ...]:
        """The columns of `store.MESSAGES`, in order."""
        return (
            self.id,
            self.parent,
            self.role.value,
            self.content,
            self.at_unix_s,
            self.status.value,
            json.dumps(self.error) if self.error else None,
            self.rating,
            self.request_id,
            self.finish_reason,
            self.begins_at,
            self.left_out,
            json.dumps(self.isthmus) if self.isthmus else None,
        )

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> StoredMessage:
        """The message of such a row."""
        (mid, parent, role, content, at, status, error, rating, request, end, begins, out, why) = (
            row
        )
        return cls(
            role=Role(role),
            content=content,
            parent=parent,
            status=MessageStatus(status),
            id=mid,
            at_unix_s=at,
            error=json.loads(error) if error else None,
            rating=rating,
            request_id=request,
            finish_reason=end,
            begins_at=begins,
            left_out=out,
            isthmus=json.loads(why) if why else None,
        )


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation without its messages."""

    id: str
    title: str
    created_unix_s: float
    updated_unix_s: float
    head: str | None = None
    taint: str = ""
    """The labels of what was private in it, with commas between; for requests without the rest."""

    def json(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "id": self.id,
            "title": self.title,
            "created_unix_s": self.created_unix_s,
            "updated_unix_s": self.updated_unix_s,
            "head": self.head,
        }


def title_of(text: str) -> str:
    """The first words of a conversation's first message, on one line."""
    line = " ".join(text.split())
    if len(line) <= _TITLE_CHARS:
        return line
    cut = line[:_TITLE_CHARS]
    # At a word's end, unless there is none near (Chinese has no spaces).
    words, _, last = cut.rpartition(" ")
    return (words if words and len(last) < _TITLE_CHARS // 3 else cut) + "…"

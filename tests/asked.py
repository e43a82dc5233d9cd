"""Requests for tests: each asked under an id of its own, since one id is one answer."""

from __future__ import annotations

import uuid
from dataclasses import replace

from isthmus.core.chat import ChatRequest, Message, Role, TextPart

REQUEST = ChatRequest("r1", (Message(Role.USER, (TextPart("What is the capital of France?"),)),))


def anew(request=REQUEST, **changes):
    """The same request, with `changes`, asked once more."""
    return replace(request, request_id=uuid.uuid4().hex, **changes)

"""One turn of a conversation: what is asked, and what of the history goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from isthmus.core.chat import Role, RouteMode
from isthmus.core.errors import IsthmusError
from isthmus.edge.answers import Json, error_response, sse
from isthmus.edge.fields import Field
from isthmus.edge.http import Refused
from isthmus.edge.openai_api import MAX_TOKENS
from isthmus.edge.page.messages import MessageStatus, StoredMessage

DEFAULT_MAX_TOKENS: Final = 1024
_NO_ROOM: Final = "context_length_exceeded"
_DRAWN: Final = {"temperature": 0.8, "top_p": 0.95}
"""For an answer that is asked for again: the likeliest one is known."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a turn's body says."""

    content: str | None
    parent: str | None
    regenerate: str | None
    route: str
    max_tokens: int

    @property
    def named(self) -> str | None:
        """The answer that it goes on from, or gives again."""
        return self.parent if self.regenerate is None else self.regenerate


def parse_turn(body: Any) -> Asked:
    """The body of a turn. Raises `InvalidRequest`."""
    root = Field(body).object()
    root.only("content", "parent", "regenerate", "route", "max_tokens")
    content, parent, again = (root.get(name) for name in ("content", "parent", "regenerate"))
    if content.given == again.given:
        content.fail("must be given, or 'regenerate': one of the two")
    if content.given and not content.text().strip():
        content.fail("must not be empty")
    if again.given and parent.given:
        parent.fail("is for new messages; an answer that is given again keeps its question")
    route, most = root.get("route"), root.get("max_tokens")
    return Asked(
        content=content.text() if content.given else None,
        parent=parent.text() if parent.given else None,
        regenerate=again.text() if again.given else None,
        route=route.choice(*RouteMode) if route.given else RouteMode.AUTO.value,
        max_tokens=most.integer(1, MAX_TOKENS) if most.given else DEFAULT_MAX_TOKENS,
    )


@dataclass(slots=True)
class Turn:
    """One turn while it is answered."""

    conversation: str
    asked: Asked
    path: list[StoredMessage]
    """The messages up to the question, the question included."""
    question: StoredMessage | None
    """The new one; None: an answer is given again."""
    answer: StoredMessage
    taint: str = ""
    """The labels of what was private in the conversation."""

    @classmethod
    def of(
        cls, conversation: str, branch: list[StoredMessage], asked: Asked, *, taint: str = ""
    ) -> Turn:
        """The turn that `asked` begins. Raises `Refused` (404).

        `branch`: from the first message to the one that `asked` names.
        """
        if asked.named is not None and (not branch or branch[-1].role is not Role.ASSISTANT):
            name = "parent" if asked.regenerate is None else "regenerate"
            raise Refused(
                404, f"'{name}' names no answer here", code="message_not_found", param=name
            )
        if asked.regenerate is not None:
            question, path = None, branch[:-1]
        else:
            question = StoredMessage(Role.USER, asked.content or "", asked.parent)
            path = [*branch, question]
        answer = StoredMessage(Role.ASSISTANT, "", path[-1].id, MessageStatus.RUNNING)
        turn = cls(conversation, asked, path, question, answer, taint)
        # Where an earlier turn had to begin, this one does: what a tier has cached stays of use.
        begun = [m.begins_at for m in path if m.begins_at is not None]
        turn._begin_at(begun[-1] if begun else None)
        return turn

    @property
    def shown(self) -> list[StoredMessage]:
        """What the model is shown: no answer without a word, and no question without room."""
        path = self.path[self.answer.left_out :]
        return [
            m
            for m, after in zip(path, [*path[1:], None], strict=True)
            if m.content and not (after and after.error and after.error["code"] == _NO_ROOM)
        ]

    def leave_out(self) -> bool:
        """Show the model half as much of what came before; False: only the question is left."""
        history = self.path[self.answer.left_out : -1]
        questions = [m for m in history if m.role is Role.USER]
        if not questions:
            return False
        later = questions[(len(questions) + 1) // 2 :]
        self._begin_at(later[0].id if later else self.path[-1].id)
        return True

    def failed(self, error: IsthmusError) -> None:
        """There is no (whole) answer, and why."""
        told = error_response(error).body["error"]
        self.answer.status = MessageStatus.FAILED
        self.answer.error = {"code": told["code"], "message": told["message"]}
        if told["code"] == _NO_ROOM:
            # The next question has room for what this one had none for.
            self._begin_at(None)

    def _begin_at(self, message: str | None) -> None:
        ids = [m.id for m in self.path]
        self.answer.left_out = ids.index(message) if message in ids else 0
        self.answer.begins_at = message if self.answer.left_out else None

    def request(self) -> Json:
        """The body of a chat request for it."""
        return {
            "model": "isthmus",
            "messages": [{"role": m.role.value, "content": m.content} for m in self.shown],
            "max_tokens": self.asked.max_tokens,
            "stream": True,
            "temperature": 0,
            # Keeps small models from going in circles.
            "repetition_penalty": 1.1,
            "isthmus": {"route": self.asked.route, "conversation": self.conversation},
            **(_DRAWN if self.asked.regenerate is not None else {}),
        }

    def event(self) -> bytes:
        """Both messages as they are now."""
        question = None if self.question is None else self.question.json()
        return sse({"object": "isthmus.turn", "user": question, "assistant": self.answer.json()})

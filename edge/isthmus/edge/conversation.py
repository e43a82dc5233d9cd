"""Finding a conversation again, and keeping its privacy class with it.

OpenAI requests carry no identity, only the whole history each time. Every message is therefore
linked by keyed hashes: of the history up to it, of it with the message before, and, when it is
long enough to be told from others, of it alone. So an edited or shortened history still finds
the messages that it shares, and inherits the taint of each. Taint flows forward: what follows a
sensitive message may repeat it; what came before (a system prompt that a thousand conversations
share) does not.

The key is random and lives as long as the process; no text is kept.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isthmus.core.chat import ImagePart, Message, PrivacyClass, Role, TextPart

_SEVERITY = {PrivacyClass.PUBLIC: 0, PrivacyClass.UNKNOWN: 1, PrivacyClass.SENSITIVE: 2}
_TELLING_CHARS = 24
"""A message of this length is taken to be the same wherever it turns up; "thanks" is not."""


def worst(*classes: PrivacyClass) -> PrivacyClass:
    """The most careful of some privacy classes."""
    return max(classes, key=_SEVERITY.__getitem__)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it was found. `tainted_from` is the first tainted message, if any is."""

    id: str
    taint: PrivacyClass = PrivacyClass.PUBLIC
    tainted_from: int | None = None


@dataclass(frozen=True, slots=True)
class _Link:
    conversation: str
    taint: PrivacyClass


class Conversations:
    """The conversations of late. Holds at most `capacity` links, about three a message.

    For one event loop: not thread-safe.
    """

    def __init__(self, *, capacity: int = 1 << 16) -> None:
        self._key = secrets.token_bytes(32)
        self._capacity = capacity
        self._links: OrderedDict[bytes, _Link] = OrderedDict()

    def __len__(self) -> int:
        return len(self._links)

    def find(self, messages: Sequence[Message], name: str | None = None) -> Conversation:
        """The conversation of a request: by its own `name`, else by the messages it shares."""
        found: str | None = None
        answered = False
        taint, tainted_from = PrivacyClass.PUBLIC, None
        for index, keys in enumerate(self._keys(messages)):
            answered = answered or messages[index].role is Role.ASSISTANT
            for key in keys:
                link = self._links.get(key)
                if link is None:
                    continue
                self._links.move_to_end(key)
                if link.taint is not PrivacyClass.PUBLIC and tainted_from is None:
                    tainted_from = index
                taint = worst(taint, link.taint)
                # Two conversations may well begin with the same "Hello": an answer tells them
                # apart, and the latest message that is shared says which one goes on.
                found = link.conversation if answered else found
        if name is not None:
            found = _letters(self._name_key(name))
            link = self._links.get(self._name_key(name))
            if link is not None and link.taint is not PrivacyClass.PUBLIC:
                taint = worst(taint, link.taint)
                tainted_from = len(messages) - 1 if tainted_from is None else tainted_from
        return Conversation(found or _new_id(), taint, tainted_from)

    def remember(
        self,
        conversation: Conversation,
        messages: Sequence[Message],
        *,
        name: str | None = None,
    ) -> None:
        """Link `messages` (with the answer as the last one) to `conversation`, taint included."""
        clean_until = len(messages)
        if conversation.tainted_from is not None:
            clean_until = conversation.tainted_from
        for index, keys in enumerate(self._keys(messages)):
            taint = conversation.taint if index >= clean_until else PrivacyClass.PUBLIC
            for key in keys:
                self._put(key, conversation.id, taint)
        if name is not None:
            self._put(self._name_key(name), conversation.id, conversation.taint)

    def _put(self, key: bytes, conversation: str, taint: PrivacyClass) -> None:
        known = self._links.get(key)
        if known is not None:
            taint = worst(taint, known.taint)
        self._links[key] = _Link(conversation, taint)
        self._links.move_to_end(key)
        while len(self._links) > self._capacity:
            self._links.popitem(last=False)

    def _keys(self, messages: Sequence[Message]) -> Iterator[list[bytes]]:
        """The link keys of each message in turn."""
        prefix, before = b"", None
        for message in messages:
            own = self._hash(b"message", *_canonical(message))
            prefix = self._hash(b"prefix", prefix, own)
            keys = [prefix]
            if before is not None:
                keys.append(self._hash(b"pair", before, own))
            shared_by_many = message.role in {Role.SYSTEM, Role.DEVELOPER}
            if len(message.text) >= _TELLING_CHARS and not shared_by_many:
                keys.append(self._hash(b"alone", own))
            # A system prompt makes no pair: its follower would be known by it alone.
            before = None if shared_by_many else own
            yield keys

    def _name_key(self, name: str) -> bytes:
        return self._hash(b"name", name.encode())

    def _hash(self, *parts: bytes) -> bytes:
        keyed = hashlib.blake2b(key=self._key, digest_size=16)
        for part in parts:
            # The length in front keeps ("ab", "c") and ("a", "bc") apart.
            keyed.update(len(part).to_bytes(8, "little"))
            keyed.update(part)
        return keyed.digest()


def _canonical(message: Message) -> Iterator[bytes]:
    yield message.role.encode()
    yield (message.name or "").encode()
    yield (message.tool_call_id or "").encode()
    for part in message.content:
        match part:
            case TextPart(text):
                yield text.encode()
            case ImagePart(url):
                yield b"image"
                yield url.encode()
    for call in message.tool_calls:
        yield from (b"call", call.id.encode(), call.name.encode(), call.arguments.encode())


def _new_id() -> str:
    # Letters alone: the privacy scan reads every field, and digits may look like a card's number.
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(24))


def _letters(digest: bytes) -> str:
    return digest.hex().translate(str.maketrans(string.digits, "ghijklmnop"))

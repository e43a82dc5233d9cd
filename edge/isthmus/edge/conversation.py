"""Finding a conversation again, and keeping with it the labels of what was private in it.

OpenAI requests carry no identity, only the whole history each time. Every message is therefore
linked by keyed hashes: of the history up to it, of it with the message before, and, when it is
long enough to be told from others, of it alone. An answer is linked to what stood before its
question, too, and in a first turn to how the question begins and ends: it may be edited under a
short answer. So an edited or shortened history still finds the messages that it shares, and
inherits the taint of each. Under a first question that was replaced as a whole a short answer that
repeats a name or a number of it is known by itself; one like "OK." says nothing of it, and is
found only by a name (`isthmus.conversation`), which keeps its taint whatever the messages. Whose
conversation it is, and so which values may come back in it, only a name or the whole history up to
an answer says. Taint flows forward: what follows a sensitive message may repeat it; what came
before (a system prompt that a thousand conversations share) does not.

The key is random and lives as long as the process; no text is kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from isthmus.core.chat import ImagePart, Message, Role, TextPart

_TELLING_CHARS = 24
"""A message of this length is taken to be the same wherever it turns up; "thanks" is not."""
_TELLING_DIGITS = 4
"""So many make a short answer telling: they may be the value itself."""
_REPEATED = re.compile(r"(?:[A-Z]|(?=[a-z]*\d))[A-Za-z0-9]{2,}|[\u3400-\u9fff]{3,}")
"""What a short answer may repeat of its question: a name, a code, a few Chinese characters."""
_HAN_CHARS = 3
_KEPT_WORDS = 2
"""How many words a first question has to keep, where it begins or ends, to be known again."""

UNSCANNED = "?"
"""In place of a label: a scan failed, and nobody knows what is there."""

Taint = frozenset[str]
"""The labels of what was found so far, or `UNSCANNED`."""
CLEAN: Taint = frozenset()


_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
"""A word, or a Chinese character."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it was found. `flow` is the taint at each message of the request."""

    id: str
    flow: tuple[Taint, ...] = ()
    named: Taint = CLEAN
    """The taint of the name that the request gave the conversation."""

    @property
    def taint(self) -> Taint:
        """Everything that may be repeated from here on."""
        return (self.flow[-1] if self.flow else CLEAN) | self.named

    def tainted(self, labels: Iterable[Taint]) -> Conversation:
        """With `labels` found in each message: what follows it may repeat them."""
        found, flow = CLEAN, []
        for inherited, new in zip(self.flow, labels, strict=True):
            found |= new
            flow.append(inherited | found)
        return replace(self, flow=tuple(flow))


@dataclass(frozen=True, slots=True)
class _Link:
    conversation: str
    taint: Taint


class Conversations:
    """The conversations of late. Holds at most `capacity` links, about three a message, and as
    many names, which no message pushes out.

    For one event loop: not thread-safe.
    """

    def __init__(self, *, capacity: int = 1 << 16) -> None:
        self._key = secrets.token_bytes(32)
        self._capacity = capacity
        self._links: OrderedDict[bytes, _Link] = OrderedDict()
        self._names: OrderedDict[bytes, _Link] = OrderedDict()

    def __len__(self) -> int:
        return len(self._links)

    def find(self, messages: Sequence[Message], name: str | None = None) -> Conversation:
        """The conversation of a request: by its own `name`, else by the history it begins with.

        Its taint is that of every message it shares with any conversation.
        """
        found: str | None = None
        answered = False
        taint, flow, named = CLEAN, [], CLEAN
        for index, keys in enumerate(self._keys(messages, asked=True)):
            answered = answered or messages[index].role is Role.ASSISTANT
            for key in keys:
                link = self._links.get(key)
                if link is None:
                    continue
                self._links.move_to_end(key)
                taint |= link.taint
                # Two conversations may well begin with the same "Hello": an answer tells them
                # apart. A message that two of them share makes them not one: only the whole
                # history up to here says which one goes on, and whose values it may bring back.
                if answered and key == keys[0]:
                    found = link.conversation
            flow.append(taint)
        if name is not None:
            key = self._name_key(name)
            found = _letters(key)
            if key in self._names:
                self._names.move_to_end(key)
                named = self._names[key].taint
        return Conversation(found or _new_id(), tuple(flow), named)

    def remember(
        self,
        conversation: Conversation,
        messages: Sequence[Message],
        *,
        name: str | None = None,
    ) -> None:
        """Link `messages` (with the answer as the last one) to `conversation`, taint included."""
        for index, keys in enumerate(self._keys(messages)):
            known = index < len(conversation.flow)
            taint = conversation.flow[index] if known else conversation.taint
            for key in keys:
                self._put(self._links, key, _Link(conversation.id, taint))
        if name is not None:
            link = _Link(conversation.id, conversation.taint)
            self._put(self._names, self._name_key(name), link)

    def taint_of(self, name: str) -> Taint:
        """What was found in the conversation of this name, as far as that is known here."""
        link = self._names.get(self._name_key(name))
        return CLEAN if link is None else link.taint

    def inherit(self, name: str, taint: Taint) -> None:
        """Know of a name what was known of it before a restart."""
        key = self._name_key(name)
        self._put(self._names, key, _Link(_letters(key), taint))

    def forget(self, name: str) -> str:
        """Forget what hangs on a name; the id of the conversation that it named.

        The messages' own links stay: other conversations may share them.
        """
        key = self._name_key(name)
        self._names.pop(key, None)
        return _letters(key)

    def _put(self, links: OrderedDict[bytes, _Link], key: bytes, link: _Link) -> None:
        known = links.get(key)
        links[key] = link if known is None else replace(link, taint=link.taint | known.taint)
        links.move_to_end(key)
        while len(links) > self._capacity:
            links.popitem(last=False)

    def _keys(self, messages: Sequence[Message], *, asked: bool = False) -> Iterator[list[bytes]]:
        """The link keys of each message in turn, that of the history up to it first.

        `asked`: those by which it may be found, of which not all need be remembered.
        """
        earlier, prefix, before = b"", b"", None
        spoken: list[Message] = []
        for message in messages:
            own = self._hash(b"message", *_canonical(message))
            edited = self._edited(earlier, spoken, message, own, asked=asked)
            earlier, prefix = prefix, self._hash(b"prefix", prefix, own)
            keys = [prefix, *edited]
            if before is not None:
                keys.append(self._hash(b"pair", before, own))
            shared_by_many = message.role in {Role.SYSTEM, Role.DEVELOPER}
            if len(message.text) >= _TELLING_CHARS and not shared_by_many:
                keys.append(self._hash(b"alone", own))
            # A system prompt makes no pair: its follower would be known by it alone.
            before = None if shared_by_many else own
            if not shared_by_many:
                spoken.append(message)
            yield keys

    def _edited(
        self,
        earlier: bytes,
        spoken: Sequence[Message],
        answer: Message,
        own: bytes,
        *,
        asked: bool,
    ) -> Iterator[bytes]:
        """The keys by which a short answer is found though its question was edited.

        `earlier` is the history before the question, `own` the answer's hash.
        """
        if answer.role is not Role.ASSISTANT or not spoken or len(answer.text) >= _TELLING_CHARS:
            return
        digits = sum(map(str.isdigit, answer.text))
        if digits >= _TELLING_DIGITS or asked or _repeats(answer.text, spoken[-1].text):
            yield self._hash(b"alone", own)
        if len(spoken) > 1:
            yield self._hash(b"after", earlier, own)
            return
        # Nothing came before but what many share: the question has to have kept something.
        words = _WORD.findall(spoken[0].text)
        if len(words) >= _KEPT_WORDS:
            begins, ends = words[:_KEPT_WORDS], words[-_KEPT_WORDS:]
            yield self._hash(b"begins", earlier, own, *(word.encode() for word in begins))
            yield self._hash(b"ends", earlier, own, *(word.encode() for word in ends))

    def _name_key(self, name: str) -> bytes:
        return self._hash(b"name", name.encode())

    def _hash(self, *parts: bytes) -> bytes:
        keyed = hashlib.blake2b(key=self._key, digest_size=16)
        for part in parts:
            # The length in front keeps ("ab", "c") and ("a", "bc") apart.
            keyed.update(len(part).to_bytes(8, "little"))
            keyed.update(part)
        return keyed.digest()


def _repeats(answer: str, question: str) -> bool:
    """Whether a short answer has a name, a code or a few Chinese characters of its question."""
    for found in _REPEATED.findall(answer):
        if found.isascii():
            pieces = [found]
        else:
            pieces = [found[at : at + _HAN_CHARS] for at in range(len(found) - _HAN_CHARS + 1)]
        if any(piece in question for piece in pieces):
            return True
    return False


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

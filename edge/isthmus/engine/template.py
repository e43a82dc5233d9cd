"""A model's chat template: a conversation becomes a prompt in segments.

The template comes with the model and is not trusted: it runs in jinja2's immutable sandbox. Nor
is the conversation: before rendering, every control token's text in it is swapped for one
private-use character, the rendered text is split at the control tokens that are then left, which
are the template's own, and the swapped texts are put back as plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from isthmus.core.chat import ImagePart, Message, Role, Tool
from isthmus.core.errors import NotSupported
from isthmus.engine import calls
from isthmus.engine.errors import ModelNotSupported, TemplateRefused
from isthmus.engine.tokens.tokenizer import Segment, Tokenizer

_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PRIVATE_USE = range(0xF0000, 0x10FFFE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered conversation, ready for `Tokenizer.encode`."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """Everything that the model will see. User text: not for logs."""
        return "".join(segment.text for segment in self.segments)


class _Raised(jinja2.TemplateError):
    """The template called `raise_exception`."""


class ChatTemplate:
    """A compiled chat template. Safe to share between threads."""

    def __init__(
        self, source: str, *, control_tokens: Collection[str], bos: str = "", eos: str = ""
    ) -> None:
        """Compile `source`; an empty one means ChatML, if the tokens for it are there.

        Raises `ModelNotSupported` when there is no template, or one that jinja2 cannot read.
        """
        if not source.strip():
            if not {"<|im_start|>", "<|im_end|>"} <= set(control_tokens):
                raise ModelNotSupported(
                    "the model has no chat template: it was not trained for conversations"
                )
            source = _CHATML
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            variables = meta.find_undeclared_variables(environment.parse(source))
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelNotSupported(f"the model's chat template is broken: {error}") from error
        self.supports_tools = "tools" in variables and calls.OPEN in source
        """Whether the template shows the model its tools, and how we expect them to be called."""
        self._knows_tool_role = re.search(r"""['"]tool['"]""", source) is not None
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._hide = _Hider(control_tokens)
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._control = re.compile(f"({_any_of(longest_first)})")

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ChatTemplate:
        """The template that came with `tokenizer`."""
        spec = tokenizer.spec
        bos = "" if spec.bos_id is None else tokenizer.token_bytes(spec.bos_id).decode()
        eos = tokenizer.token_bytes(spec.eos_ids[0]).decode() if spec.eos_ids else ""
        control = tokenizer.control_tokens
        return cls(spec.chat_template, control_tokens=control, bos=bos, eos=eos)

    def render(
        self,
        messages: tuple[Message, ...],
        *,
        tools: Sequence[Tool] = (),
        answer_so_far: str = "",
    ) -> Prompt:
        """The prompt for the next answer of the assistant, which starts with `answer_so_far`.

        That start is a text segment of its own, so that the tokens before it do not depend on it.
        Tools that the template has no place for are listed in the system message. Raises
        `NotSupported` (images) or `TemplateRefused`; neither error holds text of the conversation.
        """
        try:
            spoken = [self._spoken(message) for message in messages]
            if tools and not self.supports_tools:
                spoken, tools = _with_instructions(spoken, calls.instructions(tools)), ()
            listed = [calls.described(tool) for tool in tools]
            hidden, literal = self._hide({"messages": spoken, "tools": listed})
        except RecursionError:
            raise TemplateRefused(
                "the arguments of a tool call are nested too deeply", field="messages"
            ) from None
        try:
            rendered = self._template.render(
                messages=hidden["messages"],
                tools=hidden["tools"] or None,
                add_generation_prompt=True,
                **self._tokens,
            )
        except _Raised:
            # A template may quote a message in what it raises, so its words are not repeated.
            raise TemplateRefused(
                "the model's chat template refuses this conversation; check the order of the "
                "roles, and that a system message comes first",
                field="messages",
            ) from None
        except Exception as error:
            raise TemplateRefused(
                f"the model's chat template fails on this conversation ({type(error).__name__})",
                field="messages",
            ) from None
        segments = [
            Segment(_restore(part, literal), is_control=index % 2 == 1)
            for index, part in enumerate(self._control.split(rendered))
            if part
        ]
        if answer_so_far:
            segments.append(Segment(answer_so_far))
        return Prompt(tuple(segments))

    def _spoken(self, message: Message) -> dict[str, Any]:
        """A message as templates expect it: transformers' form."""
        if any(isinstance(part, ImagePart) for part in message.content):
            raise NotSupported("this model reads no images", field="messages")
        role, content = message.role, message.text
        if role is Role.DEVELOPER:
            role = Role.SYSTEM
        if not self._knows_tool_role:
            if role is Role.TOOL:
                role, content = Role.USER, calls.result(content)
            made = (
                calls.written(call.name, _parsed(call.arguments)) for call in message.tool_calls
            )
            said = calls.BETWEEN.join(filter(None, (content, *made)))
            return {"role": role.value, "content": said}
        turn: dict[str, Any] = {"role": role.value, "content": content}
        if message.name is not None:
            turn["name"] = message.name
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.id,
                    "function": {"name": call.name, "arguments": _parsed(call.arguments)},
                }
                for call in message.tool_calls
            ]
        return turn


class _Hider:
    """Swaps control tokens' texts in a conversation for private-use characters."""

    def __init__(self, control_tokens: Collection[str]) -> None:
        longest_first = sorted(control_tokens, key=len, reverse=True)
        # The start of a token at the end of a string could meet its rest in the next string.
        starts = {token[:n] for token in control_tokens for n in range(1, len(token))}
        starts_at_end = _any_of(sorted(starts, key=len, reverse=True))
        self._pattern = re.compile(f"{_any_of(longest_first)}|(?:{starts_at_end})\\Z")

    def __call__(self, value: Any) -> tuple[Any, Mapping[str, str]]:
        """`value` with every string made harmless, and the text of each character put in."""
        characters = set[str]().union(*_strings(value))
        free = (chr(code) for code in _PRIVATE_USE if chr(code) not in characters)
        stand_in: dict[str, str] = {}

        def swap(match: re.Match[str]) -> str:
            text = match.group()
            if text not in stand_in:
                character = next(free, None)
                if character is None:
                    raise TemplateRefused(
                        "the messages use every private-use character of Unicode",
                        field="messages",
                    )
                stand_in[text] = character
            return stand_in[text]

        hidden = _map_strings(value, lambda text: self._pattern.sub(swap, text))
        return hidden, {character: text for text, character in stand_in.items()}


def _any_of(texts: Sequence[str]) -> str:
    """A regular expression for any of `texts`, the first that fits; for none, it never matches."""
    return "|".join(map(re.escape, texts)) or r"(?!)"


def _strings(value: Any) -> Iterator[str]:
    """Every string in `value` (JSON's types), keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (key, *_strings(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _restore(text: str, literal: Mapping[str, str]) -> str:
    return (
        text.translate({ord(character): hidden for character, hidden in literal.items()})
        if literal
        else text
    )


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """`value` (JSON's types) with `change` applied to every string in it, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value


def _parsed(arguments: str) -> Any:
    """A call's arguments as values where they are JSON: they are written out again."""
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments


def _with_instructions(spoken: Sequence[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The conversation with `text` at the end of its system message, or as one."""
    if not spoken or spoken[0]["role"] != Role.SYSTEM.value:
        return [{"role": Role.SYSTEM.value, "content": text}, *spoken]
    told = {**spoken[0], "content": f"{spoken[0]['content']}\n\n{text}"}
    return [told, *spoken[1:]]


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that transformers renders chat templates in."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML, which no model was trained on.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise _Raised(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)

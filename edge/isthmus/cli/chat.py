"""`isthmus chat`: talk to a running agent in the terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.flags import backends

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]


def chat(
    url: Annotated[str, typer.Option(help="The agent.")] = "http://127.0.0.1:8080",
    model: Annotated[
        str, typer.Option(help="isthmus chooses; isthmus-edge and isthmus-cloud force a tier.")
    ] = "isthmus",
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 512,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="0 always gives the likeliest answer.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(min=0.01, help="Above 1 keeps small models from going in circles.")
    ] = 1.1,
    token: Annotated[
        str | None, typer.Option(envvar="ISTHMUS_EDGE_TOKEN", help="The agent's token.")
    ] = None,
) -> None:
    """Talk to a running agent; each answer says where it was made and why.

    When stdin is piped, every line is a message; the answers go to stdout, the rest to stderr.

    Example: echo "What is the capital of France?" | isthmus chat --model isthmus-edge
    """
    import httpx

    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter("must begin with http:// or https://", param_hint="--url")
    options: Json = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "repetition_penalty": repetition_penalty,
    }
    talk = _Talk(options, system)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    # The agent is near, often on loopback: a proxy of the environment has no business here.
    with httpx.Client(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(10, read=600),
        trust_env=False,
    ) as http:
        try:
            failed = _converse(http, talk)
        except httpx.ConnectError:
            typer.echo(f"Error: no agent answers at {url}; start one: isthmus up", err=True)
            raise typer.Exit(1) from None
    if failed:
        raise typer.Exit(1)


class _Failed(Exception):
    """The agent gave an error in place of an answer, or in its middle."""


class _Talk:
    """A conversation as the agent is sent it, whole, each time."""

    def __init__(self, options: Json, system: str | None) -> None:
        self._options = options
        self.messages: list[Json] = []
        if system is not None:
            self.messages.append({"role": "system", "content": system})

    def request(self) -> Json:
        """The body of the next request."""
        return {
            **self._options,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def _converse(http: httpx.Client, talk: _Talk) -> bool:
    """Message by message until the end of input; whether the last one failed."""
    from rich.console import Console
    from rich.markup import escape

    notes = Console(stderr=True, highlight=False)
    person = sys.stdin.isatty()
    if person:
        http.get("/healthz")
        notes.print("[dim]Ctrl-C stops an answer, Ctrl-D ends the conversation.[/dim]")
    failed = False
    for line in _lines(notes, person=person):
        talk.messages.append({"role": "user", "content": line})
        said: list[str] = []
        summary: Json = {}
        try:
            for chunk in _answer(http, talk.request()):
                summary |= {key: chunk[key] for key in ("isthmus", "usage") if chunk.get(key)}
                for choice in chunk.get("choices", []):
                    text = choice["delta"].get("content") or ""
                    said.append(text)
                    print(text, end="", flush=True)
            failed = False
        except KeyboardInterrupt:
            if not person:
                raise
            notes.print("\n[dim]stopped[/dim]", end="")
        except _Failed as error:
            failed = True
            notes.print("[red]Error:[/red]", escape(str(error)), soft_wrap=True)
        print(flush=True)
        if summary.get("isthmus"):
            notes.print(f"[dim]{_told(summary)}[/dim]", soft_wrap=True)
        if said:
            talk.messages.append({"role": "assistant", "content": "".join(said)})
        else:
            talk.messages.pop()
    return failed


def _lines(notes: Any, *, person: bool) -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        # By default what is no UTF-8 becomes half surrogate pairs, which no JSON can carry.
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            line = notes.input("[bold]you>[/bold] ") if person else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            notes.print()
            return
        if not person and not line:
            return
        if line.strip():
            yield line.strip()


def _answer(http: httpx.Client, body: Json) -> Iterator[Json]:
    """The chunks of one answer. Raises `_Failed`."""
    import httpx

    try:
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                raise _Failed(_message(response.text))
            for line in response.iter_lines():
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    return
                if data:
                    chunk = json.loads(data)
                    if "error" in chunk:
                        raise _Failed(chunk["error"]["message"])
                    yield chunk
    except httpx.ConnectError:
        raise
    except httpx.HTTPError as error:
        raise _Failed(f"the connection to the agent broke ({type(error).__name__})") from None


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "what answers at this address is not an Isthmus agent"


def _told(summary: Json) -> str:
    """`edge (easy) · smollm2-135m on native · first token 41 ms · 118 tok/s · 12 new + 30 …`"""
    isthmus = summary["isthmus"]
    latency = isthmus["latency"]
    parts = [f"{isthmus['target']} ({', '.join(isthmus['reasons'])})", isthmus["model"]]
    if isthmus["target"] == "edge":
        on = backends(isthmus["prefill_backend"], isthmus["decode_backend"])
        parts[-1] += f" on {on}"
    if isthmus["same_model_demo"]:
        parts.append("same-model demo")
    if latency["ttft_ms"] is not None:
        parts.append(f"first token {latency['ttft_ms']:.0f} ms")
    if latency["tpot_ms"]:
        parts.append(f"{1000 / latency['tpot_ms']:.0f} tok/s")
    prompt = f"{isthmus['prefilled_tokens']} new + {isthmus['cached_tokens']} cached prompt tokens"
    return " · ".join([*parts, prompt])

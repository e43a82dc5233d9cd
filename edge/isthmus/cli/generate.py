"""`isthmus generate` and `isthmus perplexity`: the engine alone, without agent or router."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.flags import backends
from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.engine.engine import Engine
    from isthmus.engine.template import Prompt

Model = Annotated[str, typer.Option(help="A known name, a path, or OWNER/NAME of a repository.")]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="native, opencl, numpy, or more closely native:avx2 or opencl:NAME: that one or an "
        "error. auto takes the best for each phase, and the next when one fails.",
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="By default one a physical core.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


def generate(
    prompt: Annotated[str, typer.Option(help="The text to continue; - reads standard input.")],
    model: Model = "smollm2-135m",
    max_tokens: Annotated[int, typer.Option(min=1, help="Stop after this many tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from the k likeliest; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Sample from this much mass.")] = 1.0,
    min_p: Annotated[float, typer.Option(min=0, max=1, help="Drop less likely, relatively.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01, help="1.0: none.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same answer.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask it as a user of the chat model.")
    ] = False,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the model wants to end.")
    ] = False,
    speculation: Annotated[
        bool, typer.Option(help="Guess tokens from the prompt where it pays; same answer.")
    ] = True,
    backend: BackendName = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt on this device and print the answer as it comes.

    Example: isthmus generate --prompt "The capital of France is" --max-tokens 16 --temperature 0
    """
    from isthmus.core.chat import ChatRequest, Message, Role, Sampling, TextPart
    from isthmus.core.checks import check_sampling
    from isthmus.engine.engine import Engine

    text = sys.stdin.read() if prompt == "-" else prompt
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
        ignore_eos=ignore_eos,
    )
    check_sampling(sampling)  # before the model is loaded
    engine = Engine.open(model, backend=backend, threads=threads, speculation=speculation)
    try:
        asked: Prompt | str = text
        if chat:
            message = Message(Role.USER, (TextPart(text),))
            asked = engine.prompt(ChatRequest("generate", (message,)))
        result = asyncio.run(_run(engine, asked, sampling, max_tokens, show=not as_json))
        result["prefill_backend"] = engine.prefill_backend
        result["decode_backend"] = engine.decode_backend
        result["guessed_tokens"] = engine.speculated.proposed
        result["guessed_right_tokens"] = engine.speculated.accepted
    finally:
        engine.close()
    print(json.dumps(result, ensure_ascii=False) if as_json else "")


async def _run(
    engine: Engine, prompt: Prompt | str, sampling: Any, max_tokens: int, *, show: bool
) -> dict[str, Any]:
    from isthmus.core.events import Delta, Finished, Started

    began = time.perf_counter()
    first = last = began
    prompt_tokens = 0
    texts: list[str] = []
    token_ids: list[int] = []
    async for event in engine.complete(prompt, sampling, max_tokens=max_tokens):
        match event:
            case Started():
                prompt_tokens = event.prompt_tokens
            case Delta():
                last = time.perf_counter()
                if not token_ids:
                    first = last
                texts.append(event.text)
                token_ids += event.token_ids
                if show:
                    print(event.text, end="", flush=True)
            case Finished():
                pass
    decoding_s = last - first
    return {
        "text": "".join(texts),
        "token_ids": token_ids,
        "prompt_tokens": prompt_tokens,
        "ttft_ms": round((first - began) * 1e3, 2),
        "decode_tok_s": round((len(token_ids) - 1) / decoding_s, 1) if decoding_s > 0 else None,
    }


def perplexity(
    file: Annotated[Path, typer.Argument(help="A UTF-8 text.")],
    model: Model = "smollm2-135m",
    backend: BackendName = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well a model predicts a text: lower is better.

    Example: isthmus perplexity README.md --backend numpy --json
    """
    from isthmus.engine.opening import open_runners
    from isthmus.engine.perplexity import measure

    text = read_text(file)
    opened = open_runners(model, backend=backend, threads=threads)
    result = measure(opened.model, opened.backend, text, standbys=opened.standbys)
    shown = {
        "perplexity": round(result.perplexity, 4),
        "tokens": result.tokens,
        "prefill_backend": result.prefill_backend,
        "decode_backend": result.decode_backend,
    }
    on = backends(result.prefill_backend, result.decode_backend)
    print(
        json.dumps(shown)
        if as_json
        else f"perplexity {result.perplexity:.4f} over {result.tokens} tokens, on {on}"
    )


def read_text(file: Path, field: str = "FILE") -> str:
    """A text that the user named in `field`. Raises `InvalidRequest` when it cannot be read."""
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", field=field) from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} is not UTF-8 text", field=field) from None

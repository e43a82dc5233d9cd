"""`isthmus model`: which models there are, getting them, looking into them, writing them out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isthmus.engine.catalogue import Entry
    from isthmus.engine.download import Report
    from isthmus.engine.model import ModelFile

app = typer.Typer(no_args_is_help=True, help="List, get, inspect and export models.")

Name = Annotated[str, typer.Argument(help="A name of the catalogue, or the path of a .gguf file.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]


@app.callback()
def model() -> None:
    """List, get, inspect and export models."""


@app.command("list", epilog="Example: isthmus model list --json")
def list_models(as_json: AsJson = False) -> None:
    """Print the catalogue: what can be asked for by name, and what is on this machine."""
    from isthmus.engine.catalogue import catalogue

    models = [_described(entry) for entry in catalogue().values()]
    if as_json:
        print(json.dumps({"models": models}))
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("name", no_wrap=True),
        "model",
        "weights",
        "size",
        "licence",
        "checksum",
        "here",
        box=None,
    )
    for entry in models:
        table.add_row(
            entry["name"],
            entry["title"],
            entry["quantization"],
            _size(entry["size_bytes"]),
            entry["licence"],
            "known" if entry["sha256"] else "unverified",
            "yes" if entry["path"] else "no",
        )
    Console().print(table)


@app.command(epilog="Example: isthmus model pull smollm2-135m")
def pull(name: Name, as_json: AsJson = False) -> None:
    """Download a model, going on where an earlier pull stopped, and verify it."""
    from isthmus.engine.pull import pull as pull_model

    with download_bar(name) as report:
        path = pull_model(name, progress=report)
    if as_json:
        size = path.stat().st_size
        print(json.dumps({"name": name, "path": str(path), "size_bytes": size}))
    else:
        print(path)


@app.command(epilog="Example: isthmus model inspect smollm2-135m")
def inspect(name: Name, as_json: AsJson = False) -> None:
    """Print what a model file holds: its shape, its size, its tokenizer."""
    path, opened = _opened(name)
    facts = _facts(path, opened)
    if as_json:
        print(json.dumps(facts))
        return
    width = max(map(len, facts))
    for fact, value in facts.items():
        print(f"{fact:{width}}  {f'{value:,}' if type(value) is int else value}")


@app.command(epilog="Example: isthmus model export smollm2-135m --to smollm2-hf")
def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="The folder to write, new or empty.")],
    as_json: AsJson = False,
) -> None:
    """Write a model in Hugging Face's layout (bf16 safetensors), so that vLLM can serve it."""
    from isthmus.engine.export import export as export_model

    _, opened = _opened(name)
    with _tensor_bar(name) as report:
        export_model(opened, to, progress=report)
    if as_json:
        size = sum(file.stat().st_size for file in to.iterdir())
        print(json.dumps({"name": name, "to": str(to), "size_bytes": size}))
    else:
        print(to)


def _opened(name: str) -> tuple[Path, ModelFile]:
    from isthmus.engine.catalogue import locate, resolve
    from isthmus.engine.errors import ModelUnavailable
    from isthmus.engine.gguf import read_gguf

    path = locate(resolve(name))
    if path is None:
        raise ModelUnavailable(f"{name} is not on this machine; get it: isthmus model pull {name}")
    return path, read_gguf(path)


def _described(entry: Entry) -> dict[str, Any]:
    from isthmus.engine.catalogue import locate

    path = locate(entry)
    return {
        "name": entry.name,
        "title": entry.title,
        "architecture": entry.architecture,
        "quantization": entry.quantization,
        "licence": entry.licence,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "sources": [str(source) for source in entry.sources],
        "path": None if path is None else str(path),
    }


def _facts(path: Path, opened: ModelFile) -> dict[str, Any]:
    config, tokenizer = opened.config, opened.tokenizer
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "architecture": config.architecture,
        "tensors": len(opened.tensor_names),
        "layers": config.layers,
        "hidden": config.hidden,
        "ffn": config.ffn,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab": config.vocab,
        "context": config.context,
        "rope_base": config.rope_base,
        "tied_embedding": config.tied_embedding,
        "eos_ids": list(tokenizer.eos_ids),
        "control_tokens": len(tokenizer.special_ids),
        "chat_template": bool(tokenizer.chat_template),
    }


def _size(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 1e6:,.0f} MB"


@contextmanager
def download_bar(name: str) -> Iterator[Report]:
    """A bar on stderr while a person is looking; nothing else ever goes to stdout."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from isthmus.engine.download import Progress as Step

    console = Console(stderr=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, start=False)

        def report(step: Step) -> None:
            if not bar.tasks[task].started:
                bar.start_task(task)
            bar.update(
                task, description=step.source, completed=step.done_bytes, total=step.total_bytes
            )

        yield report


@contextmanager
def _tensor_bar(name: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"export {name}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

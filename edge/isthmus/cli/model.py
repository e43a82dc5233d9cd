"""`isthmus model`: which models there are, getting them, looking into them, writing them out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isthmus.engine.model import ModelFile
    from isthmus.engine.sources.catalogue import Entry
    from isthmus.engine.sources.download import Report

app = typer.Typer(no_args_is_help=True, help="List, get, inspect, convert and export models.")

Name = Annotated[str, typer.Argument(help="A known name, a path, or OWNER/NAME of a repository.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]


@app.callback()
def model() -> None:
    """List, get, inspect, convert and export models."""


@app.command("list", epilog="Example: isthmus model list --json")
def list_models(as_json: AsJson = False) -> None:
    """Print the catalogue: what can be asked for by name, and what is on this machine."""
    from isthmus.engine.sources.catalogue import catalogue

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
            "known" if entry["checksummed"] else "unverified",
            "yes" if entry["path"] else "no",
        )
    Console().print(table)


@app.command(epilog="Example: isthmus model pull smollm2-135m")
def pull(name: Name, as_json: AsJson = False) -> None:
    """Download a model, going on where an earlier pull stopped, and verify it."""
    from isthmus.engine.sources.pull import pull as pull_model

    with download_bar(name) as report:
        path = pull_model(name, progress=report)
    if as_json:
        from isthmus.engine.sources.catalogue import size_of

        print(json.dumps({"name": name, "path": str(path), "size_bytes": size_of(path)}))
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
    with _steps_bar(f"export {name}") as report:
        export_model(opened, to, progress=report)
    if as_json:
        size = sum(file.stat().st_size for file in to.iterdir())
        print(json.dumps({"name": name, "to": str(to), "size_bytes": size}))
    else:
        print(to)


@app.command(epilog="Example: isthmus model convert qwen2.5-1.5b-hf --to qwen-awq --method awq")
def convert(
    source: Annotated[
        str, typer.Argument(help="A model folder of safetensors, a .gguf file, or a known name.")
    ],
    to: Annotated[str, typer.Option(help="The name that the result is known by.")],
    method: Annotated[
        str, typer.Option(help="awq (activation-aware), or rtn (round to nearest).")
    ] = "awq",
    group: Annotated[int, typer.Option(help="Weights that share a scale: 32, 64 or 128.")] = 128,
    calibration: Annotated[
        Path | None, typer.Option(help="UTF-8 text that guides awq; by default one that ships.")
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="UTF-8 text to measure on, as often as wanted; by default those that ship, or a "
            "quarter of your calibration text."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The model's licence, for `isthmus model list`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a 4-bit model of a float one, and measure what that costs.

    The result is a folder in AutoAWQ's layout among the models of this machine. Perplexities
    of the float model, of rounding alone and of the result are printed, and how far the last two
    are from the first (Kullback-Leibler divergence).
    """
    # Work is shared among cores by parts of a layer; a BLAS that does so too only gets in the way.
    # It reads this when NumPy is imported, which happens below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from isthmus.cli.generate import read_text
    from isthmus.core.errors import InvalidRequest
    from isthmus.core.paths import models_dir
    from isthmus.engine.quantize.convert import Method
    from isthmus.engine.quantize.convert import convert as convert_model
    from isthmus.engine.quantize.text import prepare
    from isthmus.engine.sources.catalogue import check_name, resolve

    if method not in set(Method):
        raise InvalidRequest(f"method {method!r} is not one of {', '.join(Method)}", field="method")
    folder = models_dir() / check_name(to)
    _, opened = _opened(source)
    texts = prepare(
        opened,
        calibration=None if calibration is None else read_text(calibration, "calibration"),
        evaluation=_texts(evaluation or []),
    )
    with _steps_bar(f"convert {opened.name}") as report:
        result = convert_model(
            opened,
            folder,
            texts,
            method=Method(method),
            group=group,
            licence=licence or resolve(source).licence,
            progress=report,
        )
    if as_json:
        print(json.dumps({"name": to, "path": str(folder)} | asdict(result)))
        return
    print(f"{folder}  {_size(result.size_bytes)}")
    print(f"perplexity, and divergence from float (nats), group {group}")
    width = max(len("text"), *(len(measured.text) for measured in result.texts))
    print(f"  {'text':{width}} {'tokens':>7} {'float':>9} {'round to nearest':>19} {'awq':>19}")
    for m in result.texts:
        print(
            f"  {m.text:{width}} {m.tokens:7,} {m.perplexity_float:9.4f}"
            f" {_figures(m.perplexity_rtn, m.divergence_rtn)}"
            f" {_figures(m.perplexity_awq, m.divergence_awq)}"
        )


def _figures(perplexity: float | None, divergence: float | None) -> str:
    return f"{'-':>19}" if perplexity is None else f"{perplexity:10.4f} {divergence:8.4f}"


def _texts(paths: list[Path]) -> dict[str, str]:
    """By the names of their files."""
    from isthmus.cli.generate import read_text
    from isthmus.core.errors import InvalidRequest

    names = [path.name for path in paths]
    for name in names:
        if names.count(name) > 1 or name == "all":
            raise InvalidRequest(
                f"two texts are called {name}; rename one, so that the table can tell them apart",
                field="evaluation",
            )
    return {path.name: read_text(path, "evaluation") for path in paths}


def _opened(name: str) -> tuple[Path, ModelFile]:
    from isthmus.engine.errors import ModelUnavailable
    from isthmus.engine.formats.reading import read_model
    from isthmus.engine.sources.catalogue import locate, resolve

    path = locate(resolve(name))
    if path is None:
        raise ModelUnavailable(f"{name} is not on this machine; get it: isthmus model pull {name}")
    return path, read_model(path)


def _described(entry: Entry) -> dict[str, Any]:
    from isthmus.engine.sources.catalogue import locate
    from isthmus.engine.sources.checksums import NAME

    path = locate(entry)
    pulled_folder = path is not None and (path / NAME).is_file()
    return {
        "name": entry.name,
        "title": entry.title,
        "architecture": entry.architecture,
        "quantization": entry.quantization,
        "licence": entry.licence,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "checksummed": entry.sha256 is not None or pulled_folder,
        "sources": [str(source) for source in entry.sources],
        "path": None if path is None else str(path),
    }


def _facts(path: Path, opened: ModelFile) -> dict[str, Any]:
    from isthmus.engine.sources.catalogue import size_of

    config, tokenizer = opened.config, opened.tokenizer
    return {
        "path": str(path),
        "size_bytes": size_of(path),
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
        "tokenizer": tokenizer.pre_tokenizer,
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

    from isthmus.engine.sources.download import Progress as Step

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
def _steps_bar(title: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

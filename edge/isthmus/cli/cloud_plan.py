"""`isthmus cloud plan`: memory, capacity and expected speed of a model on a GPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.cloud.planning.models import Model
    from isthmus.cloud.planning.plan import Plan

_HEADER_BYTES = 1 << 26
"""No header is longer."""

EXAMPLE = """
Example: isthmus cloud plan --gpu H100 --model llama-3.1-8b --prompt-tokens 2000 --batch 32
"""


def plan(
    gpu: Annotated[str, typer.Option(help="A10, A100, H100, H200, L4, …, or one of --measured.")],
    model: Annotated[
        str | None,
        typer.Option(help="A known name, a .gguf file, a config.json or its folder."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The gateway's TOML file: its model, and its [serving].")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="fp16, fp8, int8, int4, or vLLM's word (default: fp16).")
    ] = None,
    kv_cache: Annotated[
        str | None, typer.Option(help="fp16, fp8, int8_per_token_head, … (default: fp16).")
    ] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(min=1, help="GPUs that share each matrix (default: 1).")
    ] = None,
    pipeline_parallel: Annotated[
        int | None, typer.Option(min=1, help="Groups of GPUs that share the layers (default: 1).")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of one request.")] = 350,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 150,
    batch: Annotated[int, typer.Option(min=1, help="Answers written at once.")] = 1,
    parameters: Annotated[
        float | None, typer.Option(min=1, max=1e15, help="Instead of the counted ones, e.g. 7e9.")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="A TOML file of measured points (docs/serving.md).")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what fits, and what the first token and each further one take at best."""
    from isthmus.cloud.config import CloudConfig
    from isthmus.cloud.planning import gpus
    from isthmus.cloud.planning.capacity import MEMORY_UTILIZATION, STEP_TOKENS, Setup
    from isthmus.cloud.planning.measured import MeasuredFile, corrected, read
    from isthmus.cloud.planning.plan import plan as planned

    told = MeasuredFile() if measured is None else read(measured)
    settings = CloudConfig.load(config)
    if model is None and config is None:
        raise InvalidRequest("--model or --config names what is planned", field="--model")
    figures = model_of(model or settings.backend.model)
    if parameters is not None:
        figures = dataclasses.replace(figures, parameters=int(parameters), weight_bytes=None)
    serving = settings.serving
    form = weights or serving.weights.quantization or serving.dtype
    if form is not None:
        # Said by hand, so the model's files are not what is served.
        figures = dataclasses.replace(figures, weight_bytes=None)
    name, card = gpus.named(gpu, told.gpu)
    setup = Setup(
        figures,
        card,
        weights=form or "fp16",
        kv_cache=kv_cache or serving.kv_cache.dtype or "auto",
        tensor_parallel=tensor_parallel or serving.parallel.tensor or 1,
        pipeline_parallel=pipeline_parallel or serving.parallel.pipeline or 1,
        memory_utilization=serving.gpu_memory_utilization or MEMORY_UTILIZATION,
        step_tokens=serving.prefill.step_tokens or STEP_TOKENS,
    )
    setup, sources = corrected(setup, name, told.measured)
    result = planned(
        setup,
        name,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        batch=batch,
        measured=tuple(sources),
    )
    if json_:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    else:
        _show(result)


def model_of(name: str) -> Model:
    """The figures of a known model, of a GGUF file, or of a folder. Raises `InvalidRequest`."""
    from isthmus.cloud.planning import models

    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        return _of_gguf(path)
    if path.is_dir() or path.suffix == ".json":
        return models.of_folder(path)
    return models.named(name.rpartition("/")[2].lower() if name not in models.known() else name)


def _of_gguf(path: Path) -> Model:
    """The figures of a GGUF file, whose tensors are weighed as they are."""
    import math

    from isthmus.cloud.planning.models import Model
    from isthmus.engine.formats.gguf_header import read_header

    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    try:
        header = read_header(memoryview(start))
    except ValueError as error:
        raise InvalidRequest(f"{path} is no GGUF file: {error}", field="--model") from None
    values = header.values
    prefix = values.get("general.architecture", "llama")

    def number(key: str, default: int | None = None) -> int:
        value = values.get(f"{prefix}.{key}", default)
        if not isinstance(value, int):
            raise InvalidRequest(f"{path} does not tell its {key}", field="--model")
        return value

    hidden, heads = number("embedding_length"), number("attention.head_count")
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    embeddings = [shapes[name] for name in ("token_embd.weight", "output.weight") if name in shapes]
    return Model(
        name=path.stem,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        embedding_parameters=sum(math.prod(shape) for shape in embeddings),
        layers=number("block_count"),
        kv_heads=number("attention.head_count_kv", heads),
        head_size=number("attention.key_length", hidden // heads),
        hidden=hidden,
        intermediate=number("feed_forward_length"),
        vocabulary=embeddings[0][0] if embeddings else 0,
        context_tokens=number("context_length", 0),
        weight_bytes=path.stat().st_size,
        source=str(path),
    )


def _show(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    at_best = "" if plan.measured else " at best"
    rows = [
        ("memory for vLLM", f"{plan.memory_gib:.1f} GiB"),
        ("  weights", f"{plan.weights_gib:.1f} GiB ({plan.weights})"),
        ("  working space (estimate)", f"{plan.working_gib:.1f} GiB"),
        ("  KV cache", f"{plan.kv_gib:.1f} GiB ({plan.kv_bytes_per_token:,.0f} bytes a token)"),
        ("KV capacity", f"{plan.kv_tokens:,} tokens"),
        (f"conversations of {plan.context_tokens:,} tokens", f"{plan.sequences:,} at once"),
        (f"TTFT, {plan.prompt_tokens:,} tokens, alone", f"{plan.ttft_ms:.3g} ms{at_best}"),
        (
            f"TPOT, {plan.batch:,} at once",
            f"{plan.tpot_ms:.3g} ms{at_best} ({plan.tokens_per_s:,.0f} tokens/s)",
        ),
    ]
    if plan.tpot_full_ms is not None and plan.tokens_per_s_full is not None:
        rows.append(
            (
                f"TPOT, {plan.sequences:,} at once",
                f"{plan.tpot_full_ms:.3g} ms{at_best} ({plan.tokens_per_s_full:,.0f} tokens/s)",
            )
        )
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console()
    cards = f"{plan.gpus} × {plan.gpu}" if plan.gpus > 1 else plan.gpu
    console.print(f"{plan.model} ({plan.parameters / 1e9:.3g} B) on {cards}")
    console.print(table)
    if not plan.fits:
        console.print("It does not fit: fewer bits, more GPUs, or a shorter context.")
    if plan.measured:
        console.print(
            f"measured: {plan.compute_efficiency:.0%} of the operations a second, "
            f"{plan.bandwidth_efficiency:.0%} of the bandwidth ({'; '.join(plan.measured)})",
            soft_wrap=True,
        )
    console.print(f"figures: {'; '.join(source for source in plan.sources)}", soft_wrap=True)

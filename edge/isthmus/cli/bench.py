"""`isthmus bench`: figures of the engine and the gateway, beside a peer where one is installed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.bench_gateway import gateway
from isthmus.cli.bench_routing import routing
from isthmus.cli.flags import backends
from isthmus.cli.generate import read_text
from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.engine.bench.compare import Report, Result

app = typer.Typer(help=__doc__, no_args_is_help=True)

Model = Annotated[str, typer.Option(help="A known name, a path, or OWNER/NAME of a repository.")]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="native, opencl, numpy, or more closely native:avx2 or opencl:NAME; auto takes the "
        "best.",
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="By default one a physical core.")
]
Versus = Annotated[str | None, typer.Option("--vs", help="A peer to run beside: llama.cpp.")]
PeerPython = Annotated[
    Path | None,
    typer.Option(help="The interpreter that has the peer. By default .venv-peers' own."),
]
Project = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="Compute what a phone would do, and measure nothing: snapdragon-8-gen-2, "
        "snapdragon-8-gen-3 or dimensity-9300.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]

_SINGLE = ("load_s", "first_token_s", "rss_mb")
_TABLES = ("prefill_tok_s", "decode_tok_s", "batch_decode_tok_s")
_SPECULATION = ("speculation_editing", "speculation_other")
_OWN = (*_SPECULATION, "stream_slowdown")
"""What a contender is not compared with others in."""


app.command(epilog="Example: isthmus bench routing --cloud 127.0.0.1:50051 --out labels.jsonl")(
    routing
)
app.command(epilog="Example: isthmus bench gateway --rows ttft,cancel --rounds 5")(gateway)


@app.callback()
def bench() -> None:
    """Figures of the engine and the gateway, beside a peer where one is installed."""


@app.command(epilog="Example: isthmus bench engine --vs llama.cpp --runs 5")
def engine(
    model: Model = "smollm2-135m",
    backend: BackendName = "auto",
    threads: Threads = None,
    runs: Annotated[int, typer.Option(min=1, help="Medians are of this many runs.")] = 5,
    vs: Versus = None,
    peer_python: PeerPython = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed, start and memory of the engine on this machine."""
    if project is not None:
        _project(project, model, as_json=as_json)
        return

    from rich.console import Console

    from isthmus.engine.bench.compare import measure

    peer = _peer(vs, peer_python)
    with Console(stderr=True).status("starting") as status:
        report = measure(
            model,
            backend=backend,
            threads=threads,
            runs=runs,
            peer=peer,
            progress=status.update,
        )
    if as_json:
        print(json.dumps(_as_json(report)))
    else:
        _show(report)


@app.command(epilog="Example: isthmus bench accuracy README.md --vs llama.cpp")
def accuracy(
    file: Annotated[Path, typer.Argument(help="A UTF-8 text; one context's length of it counts.")],
    model: Model = "smollm2-135m",
    threads: Threads = None,
    vs: Versus = None,
    peer_python: PeerPython = None,
    as_json: AsJson = False,
) -> None:
    """Measure perplexity and the KL divergence to the float32 reference."""
    from isthmus.engine.bench.accuracy import compare

    rows = []
    for row in compare(model, read_text(file), threads=threads, peer=_peer(vs, peer_python)):
        rows.append(asdict(row))
        if not as_json:
            print(
                f"{row.name:26} perplexity {row.perplexity:.3f}  KL mean {row.kl_mean:.6f}, "
                f"99th percentile {row.kl_p99:.5f}  same best token {row.same_best:.1%}",
                flush=True,
            )
    if as_json:
        print(json.dumps({"accuracy": rows}))


def _project(device: str, model: str, *, as_json: bool) -> None:
    from isthmus.engine.bench.projection import CHIPS, Shape, assumptions, projections
    from isthmus.engine.errors import ModelUnavailable
    from isthmus.engine.formats.reading import read_model
    from isthmus.engine.sources.catalogue import locate, resolve

    if device not in CHIPS:
        raise InvalidRequest(f"{device!r} is not one of {', '.join(CHIPS)}", field="--project")
    entry = resolve(model)
    path = locate(entry)
    if path is None:
        raise ModelUnavailable(f"get the model first: isthmus model pull {entry.name}")
    given = Shape.of(
        entry.name,
        read_model(path).config,
        bits=4.5,
        source="the file's shape; 4 bits in groups of 32 with a half-precision scale",
    )
    made, rests_on = projections(device, given), assumptions(device, given)
    if as_json:
        told = {"kind": "projection, not a measurement", "device": device}
        print(
            json.dumps(told | {"projections": [asdict(m) for m in made], "assumptions": rests_on})
        )
        return
    print(f"{CHIPS[device].name}: projected from its roofline, not measured")
    for m in made:
        print(
            f"{m.model:22} {m.weight_bytes / 1e6:7.0f} MB weights + {m.kv_bytes / 1e6:4.0f} MB "
            f"keys and values, {m.launches} launches: {m.decode_ms:.1f} ms a token, "
            f"decode {m.decode_tok_s:.1f} tok/s, prefill {m.prefill_tok_s:.0f} tok/s"
        )
        for p in m.published:
            read = "" if p.prefill_tok_s is None else f", prefill {p.prefill_tok_s:g} tok/s"
            print(f"{'':22} published by {p.who}: decode {p.decode_tok_s:g} tok/s{read}")
    for name, told_of in rests_on.items():
        print(f"  {name}: {told_of}")


def _peer(vs: str | None, python: Path | None) -> Path | None:
    from isthmus.engine.bench.compare import peer_python

    if vs is None:
        return None
    if vs != "llama.cpp":
        raise InvalidRequest(f"{vs!r} is no peer that is known here; llama.cpp is", field="--vs")
    return peer_python(python)


def _figures(report: Report, result: Result) -> dict[str, Any]:
    mbu = report.mbu(result)
    return {
        **{key: round(result.figures[key].median, 4) for key in _SINGLE},
        **{key: result.table(key) for key in _TABLES},
        "bytes_per_token": result.hello.bytes_per_token,
        "read_gb_s": round(report.read_gb_s.median, 2),
        "mbu": None if mbu is None else round(mbu, 4),
    }


def _as_json(report: Report) -> dict[str, Any]:
    ours, *peers = report.results
    shown = {
        "model": report.model,
        "backend": backends(ours.hello.prefill_backend, ours.hello.decode_backend),
        "prefill_backend": ours.hello.prefill_backend,
        "decode_backend": ours.hello.decode_backend,
        "device": ours.hello.device,
        "threads": ours.hello.threads,
        **_figures(report, ours),
        **{key: ours.table(key) for key in _OWN},
    }
    if peers:
        shown["peers"] = {
            peer.name: {"device": peer.hello.device, **_figures(report, peer)}
            | {"ratios": report.ratios(peer)}
            for peer in peers
        }
    return shown


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    ours, *peers = report.results
    table = Table("median ± half the range", box=None, show_edge=False)
    table.columns[0].no_wrap = True
    for result in report.results:
        table.add_column(result.name, justify="right", no_wrap=True)
    for peer in peers:
        table.add_column(f"to {peer.name}", justify="right", no_wrap=True)
    ratios = [report.ratios(peer) for peer in peers]
    for key, figure in ours.figures.items():
        if key.startswith(_SPECULATION):
            continue
        of_all = [figure, *(peer.figures[key] for peer in peers if key in peer.figures)]
        table.add_row(
            key.replace(".", " "),
            *(f"{f.median:.4g} ±{f.spread / 2:.0%}" for f in of_all),
            *(f"{ratio[key]:.2f}x" for ratio in ratios if key in ratio),
        )
    for key in _SPECULATION:
        speedup = ours.across(key)
        if speedup is not None:
            lowest, highest = min(speedup.values), max(speedup.values)
            of_prompts = f"{speedup.median:.2f}x ({lowest:.2f} to {highest:.2f})"
            table.add_row(key.replace("_", " "), of_prompts)
    mbus = [report.mbu(result) for result in report.results]
    table.add_row("mbu", *("-" if mbu is None else f"{mbu:.0%}" for mbu in mbus))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # nobody's window to fit
    read = report.read_gb_s
    on = backends(ours.hello.prefill_backend, ours.hello.decode_backend)
    console.print(
        f"{report.model} on {on} ({ours.hello.device}), {len(read.values)} runs; "
        f"memory reads {read.median:.1f} GB/s ±{read.spread / 2:.0%}",
        highlight=False,
    )
    console.print(table)

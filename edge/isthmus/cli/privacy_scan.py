"""`isthmus privacy scan`: what is sensitive in a text, and what of it would leave."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from isthmus.privacy.base import Span
    from isthmus.privacy.policy import PrivacyConfig
    from isthmus.privacy.scanner import Scanner

CONFIG = typer.Option("--config", help="The agent's TOML file: its patterns and its policy.")
MODELS = typer.Option("--models/--no-models", help="Use the installed models for names.")


def scan(
    text: Annotated[str | None, typer.Argument(help="The text; - reads it from stdin.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option(help="Scan the rows {id, text} of this file (.gz too) instead.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the rows {id, spans} go; needed with --jsonl.")
    ] = None,
    config: Annotated[Path | None, CONFIG] = None,
    models: Annotated[bool, MODELS] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: offsets, labels, scores.")
    ] = False,
) -> None:
    """Tell what is sensitive in TEXT and what would leave the device. Nothing is sent or kept."""
    privacy, scanner = settings_and_scanner(config, models=models)
    if jsonl is not None:
        if text is not None or out is None:
            raise typer.BadParameter("needs --out and no TEXT", param_hint="--jsonl")
        _scan_rows(scanner, jsonl, out)
        return
    if text is None or out is not None:
        raise typer.BadParameter("give a text, - for stdin, or --jsonl with --out")
    read = _read(text)
    spans = scanner.scan(read)
    if as_json:
        unseen = sorted(scanner.blind_to(read))
        print(json.dumps({"spans": list(map(as_row, spans)), "unseen_labels": unseen}))
    else:
        _show(read, spans, scanner, privacy)


def settings_and_scanner(config: Path | None, *, models: bool) -> tuple[PrivacyConfig, Scanner]:
    """The privacy settings of the agent's file (the defaults without one), and their scanner."""
    from isthmus.privacy.installed import installed_scanner
    from isthmus.privacy.policy import PrivacyConfig

    if config is None:
        return PrivacyConfig(), installed_scanner(models=models)
    from isthmus.edge.config import EdgeConfig

    privacy = EdgeConfig.load(config).privacy
    return privacy, installed_scanner(privacy.detectors(), models=models)


def as_row(span: Span) -> dict[str, Any]:
    """A span as JSON: never its text."""
    return {
        "start": span.start,
        "end": span.end,
        "label": str(span.label),
        "score": round(span.score, 3),
    }


def _read(argument: str) -> str:
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("stdin is not UTF-8 text", param_hint="TEXT") from None


def _scan_rows(scanner: Scanner, source: Path, target: Path) -> None:
    """Write the spans of every row of `source` to `target`, whole or not at all."""
    from isthmus.core.errors import InvalidRequest
    from isthmus.privacy.labelled import json_rows

    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with rows_bar(source) as step, _writer(unfinished, packed=target.suffix == ".gz") as file:
            for number, row in json_rows(source):
                if "id" not in row:
                    raise InvalidRequest(f"line {number} has no id")
                spans = list(map(as_row, scanner.scan(row["text"])))
                file.write(json.dumps({"id": row["id"], "spans": spans}, ensure_ascii=False) + "\n")
                step()
        unfinished.replace(target)
    except OSError as error:
        raise InvalidRequest(f"cannot write {target}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _writer(path: Path, *, packed: bool) -> Iterator[TextIO]:
    if packed:
        with gzip.open(path, "wt", encoding="utf-8") as file:
            yield file
    else:
        with path.open("w", encoding="utf-8") as file:
            yield file


@contextmanager
def rows_bar(source: Path) -> Iterator[Callable[[], None]]:
    """A bar on stderr while a person is looking, a step for each row of `source`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from isthmus.privacy.labelled import json_rows

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        total = sum(1 for _ in json_rows(source)) if console.is_terminal else None
        task = bar.add_task("rows", total=total)
        yield lambda: bar.advance(task)


def _show(text: str, spans: Sequence[Span], scanner: Scanner, privacy: PrivacyConfig) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if spans:
        table = Table("label", "score", "where", "text", box=None, header_style="bold")
        for span in spans:
            where = f"{span.start}-{span.end}"
            shown = Text(text[span.start : span.end].replace("\n", "⏎"), overflow="ellipsis")
            table.add_row(str(span.label), f"{span.score:.2f}", where, shown)
        console.print(table)
    else:
        console.print("nothing sensitive found")
    for blind in scanner.blind:
        if blind.concerns(text):
            labels = ", ".join(sorted(blind.labels))
            console.print(f"not seen in this text: {labels} ({blind.cure})", style="yellow")
    console.print(_would_leave(text, scanner, privacy), markup=False)


def _would_leave(text: str, scanner: Scanner, privacy: PrivacyConfig) -> str:
    """What of `text` leaves the device when it is asked of the cloud."""
    from isthmus.core.chat import ChatRequest, Message, Role, TextPart
    from isthmus.privacy.policy import Action
    from isthmus.privacy.redact import AsksForValues, redact
    from isthmus.privacy.vault import Vault

    policy = privacy.policy
    found = {span.label for span in scanner.find(text)}
    verdict = policy.judge(found, scanner.blind_to(text))
    if verdict.action is Action.LOCAL_ONLY:
        because = ", ".join(sorted(verdict.forbidding | verdict.unseen))
        return f"stays on the device: {because}"
    request = ChatRequest("scan", (Message(Role.USER, (TextPart(text),)),))
    try:
        redacted = redact(
            request, Vault(), scanner.find, lambda label: policy.action(label) is Action.REDACT
        )
    except AsksForValues:
        return "stays on the device: the values are what is asked for"
    return f"would leave, given consent: {redacted.request.messages[0].text}"

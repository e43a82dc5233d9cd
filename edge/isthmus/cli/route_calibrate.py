"""`isthmus route calibrate`: a promised share becomes the threshold that keeps it."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.router.calibrate import Promise, Threshold
    from isthmus.router.learned.pair import Pair
    from isthmus.router.learned.router_file import RouterFile


def calibrate(
    prompts: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON lines {prompt}, as users ask; for --min-quality-share the rows of "
            "isthmus route label. .gz is read too.",
        ),
    ],
    max_cloud_share: Annotated[
        float | None, typer.Option(help="At most this share of requests goes to the cloud.")
    ] = None,
    min_quality_share: Annotated[
        float | None, typer.Option(help="At least this share of the cloud's quality is kept.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A trained file of your own."),
    ] = None,
    edge: Annotated[
        str,
        typer.Option(
            help="The device's model, its sha256; without it the rows' own, else the catalogue's."
        ),
    ] = "",
    cloud: Annotated[
        str, typer.Option(help="The cloud's model, its sha256 or name; likewise.")
    ] = "",
    another_pair: Annotated[
        bool, typer.Option(help="For models that nobody labelled, not the catalogue's pair.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn a target into the threshold on PROMPTS, with a bound, and print it as settings.

    The promise holds in expectation for the next prompt of the same kind, whatever the score is
    worth (conformal risk control): a poor score costs escalations.
    """
    import numpy as np

    from isthmus.router.calibrate import calibrate as keep
    from isthmus.router.learned.router_file import load, shipped
    from isthmus.router.quality import estimate

    promise = _promise(max_cloud_share, min_quality_share)
    rows = _rows(prompts)
    trained = shipped() if file is None else load(file)
    pair = _pair(edge, cloud, rows, None if another_pair else trained)
    scores = np.array([estimate(_asked(row), trained, pair).escalate for row in rows])
    graded = all("edge_correct" in row and "cloud_correct" in row for row in rows)
    right = [
        np.array([float(row[f"{tier}_correct"]) for row in rows]) if graded else None
        for tier in ("edge", "cloud")
    ]
    found = keep(scores, promise, edge=right[0], cloud=right[1])
    calibrated = trained.calibration(pair) is not None
    if as_json:
        print(json.dumps(_told(found, calibrated=calibrated)))
        return
    if calibrated and not edge and _pair_of(rows) is None:
        print("for the catalogue's pair; with other models: --another-pair", file=sys.stderr)
    _show(found, prompts.name, calibrated=calibrated)


def _promise(max_cloud_share: float | None, min_quality_share: float | None) -> Promise:
    from isthmus.router.calibrate import Goal, Promise

    if (max_cloud_share is None) == (min_quality_share is None):
        raise typer.BadParameter(
            "give one target: --max-cloud-share or --min-quality-share",
            param_hint="--max-cloud-share",
        )
    if max_cloud_share is not None:
        return Promise(Goal.MAX_CLOUD_SHARE, max_cloud_share)
    return Promise(Goal.MIN_QUALITY_SHARE, min_quality_share or 0.0)


def _rows(path: Path) -> list[dict[str, Any]]:
    from isthmus.router.labels.graded import numbered_rows

    rows = [(number, row) for number, row in numbered_rows(path) if not row.get("withheld")]
    for number, row in rows:
        if not isinstance(row.get("prompt"), str):
            raise InvalidRequest(f"{path.name}, line {number}: no prompt that is a text")
    return [row for _, row in rows]


def _asked(row: dict[str, Any]) -> Any:
    from isthmus.core.chat import ChatRequest, Message, Role, TextPart

    message = Message(Role.USER, (TextPart(row["prompt"]),))
    return ChatRequest(request_id="calibrate", messages=(message,))


def _pair(
    edge: str, cloud: str, rows: list[dict[str, Any]], known: RouterFile | None
) -> Pair | None:
    """Whose scale the threshold is on: it must be the one that the agent compares with it.

    As told, else as the rows say, else the first that the file `known` knows, as in the agent.
    """
    from isthmus.router.learned.pair import Pair

    if bool(edge) != bool(cloud):
        raise typer.BadParameter("give both models or neither", param_hint="--edge, --cloud")
    if edge and cloud:
        return Pair(edge, cloud)
    said = _pair_of(rows)
    if said is not None or known is None or not known.calibrations:
        return said
    return known.calibrations[0].pair


def _pair_of(rows: list[dict[str, Any]]) -> Pair | None:
    from isthmus.router.learned.pair import Pair

    pairs = {(row.get("edge_key"), row.get("cloud_key")) for row in rows}
    edge, cloud = pairs.pop() if len(pairs) == 1 else (None, None)
    return Pair(str(edge), str(cloud)) if edge and cloud else None


def _told(found: Threshold, *, calibrated: bool) -> dict[str, Any]:
    return {
        "threshold": max(-1.0, found.score),
        found.promise.goal.value: found.promise.value,
        "prompts": found.prompts,
        "cloud_share": found.cloud_share,
        "quality_share": found.quality_share,
        "basis": "calibrated" if calibrated else "uncalibrated",
    }


def _show(found: Threshold, source: str, *, calibrated: bool) -> None:
    goal, today = found.promise.goal.value, datetime.datetime.now(datetime.UTC).date()
    kept = "" if found.quality_share is None else f", {found.quality_share:.1%} of its quality kept"
    share = f"{found.cloud_share:.1%} to the cloud"
    print(f"on these {found.prompts} prompts: {share}{kept}", file=sys.stderr)
    if not calibrated:
        print(
            "nobody calibrated the score for this pair: it orders prompts by how hard they look "
            "(isthmus route label, then isthmus route train --pair)",
            file=sys.stderr,
        )
    print("[router]")
    print(f"{goal} = {found.promise.value:g}")
    print(f"threshold = {max(-1.0, found.score)!r}")
    print(f'threshold_source = "{source}, {found.prompts} prompts, {today}"')

"""What a routed pair is worth: quality, price and latency at shares of escalation, measured.

Every figure comes from labels: both models' real answers to the same questions
(`isthmus.router.labels.label`). The scores are cross-validated, so that no question is routed by
what was learnt from it. A random router at the same share is the yardstick; its figures are exact
means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import InvalidRequest
from isthmus.core.money import MICRO_USD_PER_USD, Price
from isthmus.router.labels import ridge
from isthmus.router.presets import CloudUse, Preset, Weights
from isthmus.router.value import leaving_worth, quality_worth

F64 = NDArray[np.float64]
Score = Callable[[Sequence[str]], F64]
"""How much each prompt is expected to gain from the cloud; higher means escalate."""
Learn = Callable[[Sequence[str], F64, F64], Score]
"""From prompts and who was right (0 or 1), the device and the cloud, to a score."""

SHARES = (0.2, 0.4, 0.6)
_FOLDS = 10
_RESAMPLES = 1000
_FEWEST_ROWS = 40


@dataclass(frozen=True, slots=True, eq=False)
class PairLabels:
    """The labels as columns. [rows]"""

    prompts: tuple[str, ...]
    kinds: NDArray[np.str_]
    """Each row's source."""
    right: F64
    """[2, rows]: the device's and the cloud's answer, 1 for right."""
    ms: F64
    """[2, rows]: how long each took; NaN for a row that does not count for latency."""
    usd: F64
    """What the cloud's answer costs. The device's costs nothing."""
    cloud_tokens: F64
    """Of prompt and answer."""
    at_once: int
    """How many questions were answered at the same time, in the rows that count for latency."""
    withheld: int = 0
    """Rows that the privacy policy kept on the device; they are in no figure."""


def pair_of(rows: Sequence[Mapping[str, Any]], price: Price | None = None) -> PairLabels:
    """The columns of label rows; `price` stands over what they say the cloud's answers cost.

    Where enough of them were answered one at a time, the others, answered in batches, do not count
    for latency.

    Raises `InvalidRequest` when there are too few, or for a row that is no label.
    """
    both = [row for row in rows if "cloud_correct" in row]
    if len(both) < _FEWEST_ROWS:
        raise InvalidRequest(
            f"{len(both)} rows have answers of both models; {_FEWEST_ROWS} are needed at least"
        )
    try:
        right = [[float(row[f"{tier}_correct"]) for row in both] for tier in ("edge", "cloud")]
        ms = np.array([[float(row[f"{tier}_ms"]) for row in both] for tier in ("edge", "cloud")])
        batches = np.array([int(row.get("at_once", 1)) for row in both])
        # The smallest batch that enough rows were answered in.
        at_once = min(b for b in batches if (batches <= b).sum() >= _FEWEST_ROWS)
        tokens = [
            (int(row.get("cloud_prompt_tokens", 0)), int(row.get("cloud_tokens", 0)))
            for row in both
        ]
        micro_usd = [
            float(row.get("cloud_micro_usd", 0)) if price is None else _exact(price, *used)
            for row, used in zip(both, tokens, strict=True)
        ]
        return PairLabels(
            prompts=tuple(str(row["prompt"]) for row in both),
            kinds=np.array([str(row.get("source") or "all") for row in both]),
            right=np.array(right),
            ms=np.where(batches <= at_once, ms, np.nan),
            usd=np.array(micro_usd) / MICRO_USD_PER_USD,
            cloud_tokens=np.array([float(sum(used)) for used in tokens]),
            at_once=int(at_once),
            withheld=sum("withheld" in row for row in rows),
        )
    except (KeyError, TypeError, ValueError):
        raise InvalidRequest("a row is no label of isthmus route label") from None


def cross_validated(pair: PairLabels, learn: Learn, *, whole_kinds: bool) -> F64:
    """A score for each row from what was learnt of the others. [rows]

    With `whole_kinds` of other kinds alone, as if its own had never been seen; else of nine tenths
    of all rows.
    """
    if whole_kinds:
        groups = np.unique(pair.kinds, return_inverse=True)[1]
    else:
        groups = np.random.default_rng(0).permutation(len(pair.prompts)) % _FOLDS
    scores = np.zeros(len(pair.prompts))
    for group in np.unique(groups):
        known, held = np.flatnonzero(groups != group), np.flatnonzero(groups == group)
        if not len(known):
            raise InvalidRequest("all rows are of one kind: none can be left out")
        score = learn([pair.prompts[i] for i in known], *pair.right[:, known])
        scores[held] = score([pair.prompts[i] for i in held])
    return scores


def learn_from(x: F64, prompts: Sequence[str]) -> Learn:
    """Learns P(right) of both models from what their heads see of `prompts`: x [rows, inputs]."""
    row_of = {prompt: row for row, prompt in enumerate(prompts)}

    def learn(known: Sequence[str], edge: F64, cloud: F64) -> Score:
        weights = ridge.fit(x[[row_of[prompt] for prompt in known]], (edge, cloud))

        def score(asked: Sequence[str]) -> F64:
            logits = x[[row_of[prompt] for prompt in asked]] @ weights[:-1] + weights[-1]
            right = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
            gain: F64 = right[:, 1] - right[:, 0]
            return gain

        return score

    return learn


def apgr(score: F64, right: F64) -> float:
    """The area under the share of the quality gap that is recovered, over the share escalated.

    RouteLLM's measure (arXiv 2406.18665, section 3.3); ties are shared evenly. A random router has
    0.5; NaN where the cloud is no better in all.
    """
    gain = right[1] - right[0]
    total = gain.sum()
    if total <= 0:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    _, place, count = np.unique(-score[order], return_inverse=True, return_counts=True)
    mean_gain = np.bincount(place, gain[order]) / count
    curve = np.concatenate([[0.0], np.cumsum(mean_gain[place])]) / total
    return float(np.trapezoid(curve, dx=1 / len(gain)))


def escalated(score: F64, share: float) -> F64:
    """Which rows go to the cloud at a share: 1, 0, or a part where the limit falls in a tie."""
    room = share * len(score)
    order = np.argsort(-score, kind="stable")
    _, place, count = np.unique(-score[order], return_inverse=True, return_counts=True)
    before = np.cumsum(count) - count
    taken = np.clip((room - before) / count, 0, 1)
    sent = np.zeros(len(score))
    sent[order] = taken[place]
    return sent


def report(pair: PairLabels, scores: Mapping[str, F64]) -> dict[str, Any]:
    """Everything about a pair, routed by each of `scores`, as JSON."""
    everything = np.ones(len(pair.prompts))
    return {
        "rows": len(pair.prompts),
        "withheld": pair.withheld,
        "latency": {"rows": int(np.isfinite(pair.ms[0]).sum()), "at_once": pair.at_once},
        "edge_alone": _figures(pair, 0 * everything),
        "cloud_alone": _figures(pair, everything),
        "random": {f"{share:g}": _figures(pair, share * everything) for share in SHARES},
        "routed": {name: _routed(pair, score) for name, score in scores.items()},
        "kinds": {kind: _kind(pair, scores, pair.kinds == kind) for kind in np.unique(pair.kinds)},
    }


def _exact(price: Price, prompt_tokens: int, answer_tokens: int) -> float:
    """Micro-dollars, not rounded: a short answer of a cheap model costs less than one."""
    paid = price.input_usd_per_mtok * prompt_tokens + price.output_usd_per_mtok * answer_tokens
    return float(paid)


def _figures(pair: PairLabels, sent: F64) -> dict[str, Any]:
    """Of a router that sends these parts of each row. Latency: of whole answers."""
    timed = np.isfinite(pair.ms).all(axis=0)
    ms = pair.ms[:, timed].ravel()
    weight = np.concatenate([1 - sent[timed], sent[timed]])
    return {
        "quality": round(float(_quality(pair.right, sent)), 4),
        "quality_ci": _interval(_resampled(lambda at: _quality(pair.right[:, at], sent[at]), sent)),
        "usd_per_1000": round(1000 * float((pair.usd * sent).mean()), 4),
        "cloud_tokens": round(float((pair.cloud_tokens * sent).mean()), 1),
        "ms_mean": round(float((ms * weight).sum() / weight.sum()), 1),
        "ms_p50": round(_quantile(ms, weight, 0.5), 1),
        "ms_p95": round(_quantile(ms, weight, 0.95), 1),
    }


def _routed(pair: PairLabels, score: F64) -> dict[str, Any]:
    found: dict[str, Any] = {
        "apgr": round(apgr(score, pair.right), 4),
        "apgr_ci": _interval(_resampled(lambda at: apgr(score[at], pair.right[:, at]), score)),
    }
    found["presets"] = {
        preset.value: _preset(pair, score, preset.weights)
        for preset in Preset
        if preset.cloud_use is CloudUse.WHEN_WORTH_MORE
    }
    for share in SHARES:
        sent = escalated(score, share)

        def gain(at: NDArray[np.intp], sent: F64 = sent, share: float = share) -> float:
            right = pair.right[:, at]
            even = np.full(len(at), share)
            return _quality(right, sent[at]) - _quality(right, even)

        found[f"{share:g}"] = _figures(pair, sent) | {
            "over_random": round(float(gain(np.arange(len(sent)))), 4),
            "over_random_ci": _interval(_resampled(gain, score)),
        }
    return found


def _preset(pair: PairLabels, score: F64, weights: Weights) -> dict[str, Any]:
    """What a preset sends of a calibrated pair whose cloud told no price, and its worth."""
    gain = float(leaving_worth(weights, priced=False) / quality_worth(1.0, weights))
    sent = np.where(score > gain, 1.0, 0.0)
    told = {"gain": round(gain, 4), "share": round(float(sent.mean()), 4)}
    return told | _figures(pair, sent)


def _kind(pair: PairLabels, scores: Mapping[str, F64], of_it: NDArray[np.bool_]) -> dict[str, Any]:
    kept = {
        name: {f"{share:g}": round(float(1 - escalated(score, share)[of_it].mean()), 3)
               for share in SHARES}
        for name, score in scores.items()
    }  # fmt: skip
    edge, cloud = pair.right[:, of_it].mean(axis=1)
    told = {
        "rows": int(of_it.sum()),
        "edge": round(float(edge), 3),
        "cloud": round(float(cloud), 3),
    }
    return told | {"kept_on_device": kept}


def _quality(right: F64, sent: F64) -> float:
    return float((right[0] * (1 - sent) + right[1] * sent).mean())


def _quantile(values: F64, weights: F64, at: float) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, at * below[-1])])


def _resampled(figure: Callable[[NDArray[np.intp]], float], like: F64) -> F64:
    rng = np.random.default_rng(0)
    return np.array([figure(rng.integers(0, len(like), len(like))) for _ in range(_RESAMPLES)])


def _interval(values: F64) -> list[float]:
    """95 %, of bootstrap samples of the rows."""
    return [round(float(v), 4) for v in np.nanpercentile(values, [2.5, 97.5])]

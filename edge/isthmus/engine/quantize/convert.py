"""A float model becomes a 4-bit one, a layer at a time, and is measured on the way.

The result is a model folder in AutoAWQ's layout, which Isthmus and vLLM load alike (vLLM needs
rows that the group divides). Three streams of text run through each layer while it is in memory:
through the float model, whose inputs guide the search; through the rounded one; and through the
activation-aware one. What comes out at the end gives the perplexity of each, so that the model is
never in memory as a whole, before or after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import ConfigError
from isthmus.engine.architectures import expected_tensors, hf_name
from isthmus.engine.errors import ModelNotSupported
from isthmus.engine.export import chunks, new_folder, vector, write_documents
from isthmus.engine.formats import awq, safetensors
from isthmus.engine.formats.safetensors import Described
from isthmus.engine.model import ModelFile
from isthmus.engine.quantize.awq_search import Matrices, quantize, quantize_aware
from isthmus.engine.quantize.layer import Inputs, Weights, read_layer, run_layer
from isthmus.engine.quantize.text import WINDOW, Texts
from isthmus.engine.quantize.threads import each
from isthmus.engine.sources.catalogue import CARD
from isthmus.kernels.base import F32, QuantizedWeight
from isthmus.kernels.numpy_ref import rms_norm

GROUPS = (32, 64, 128)

Floats = NDArray[np.float64]
Report = Callable[[int, int], None]
"""Called with the layers done and the number of all of them."""


class Method(StrEnum):
    """How weights are rounded."""

    AWQ = "awq"
    RTN = "rtn"


@dataclass(frozen=True, slots=True)
class Measured:
    """How the models do on one evaluation text, which the search has not seen.

    Divergence is from the float model, the mean over tokens (Kullback-Leibler, nats). It tells
    models apart on far less text than perplexity does.
    """

    text: str
    tokens: int
    perplexity_float: float
    perplexity_rtn: float
    perplexity_awq: float | None
    """None for round-to-nearest."""
    divergence_rtn: float
    divergence_awq: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """How a conversion went."""

    method: Method
    group: int
    size_bytes: int
    texts: list[Measured]
    """Each, and where there are several, all together as the last."""


def convert(
    model: ModelFile,
    to: Path,
    texts: Texts,
    *,
    method: Method = Method.AWQ,
    group: int = 128,
    licence: str = "unknown",
    progress: Report | None = None,
) -> Result:
    """Write `model` in 4 bits into the new folder `to`, which appears only when it is whole.

    Raises `ConfigError` for a group that is not of `GROUPS` or a folder with something in it, and
    `ModelNotSupported` for a shape that the layout has no place for.
    """
    if group not in GROUPS:
        raise ConfigError(
            f"group {group} is not one of {', '.join(map(str, GROUPS))}", field="group"
        )
    uneven = [
        name
        for name, shape in expected_tensors(model.config).items()
        if _is_quantized(name, shape) and shape[0] % awq.PER_WORD
    ]
    if uneven:
        raise ModelNotSupported(
            f"{uneven[0]} has a number of rows that {awq.PER_WORD} does not divide"
        )
    work = _Conversion(model, texts, method, group, progress)
    with new_folder(to) as draft:
        weights = draft / safetensors.WEIGHTS
        safetensors.write(weights, work.described(), work.arrays())
        write_documents(draft, model, dtype="float16", config=_quantization(group))
        result = Result(method, group, weights.stat().st_size, work.measure())
        card = asdict(result) | {
            "title": f"{model.name}, 4-bit {method} group {group}",
            "licence": licence,
            "architecture": model.config.architecture,
            "calibration": texts.origin,
        }
        (draft / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return result


def _quantization(group: int) -> dict[str, Any]:
    return {
        "quantization_config": {
            "quant_method": "awq",
            "version": "gemm",
            "bits": awq.BITS,
            "group_size": group,
            "zero_point": True,
            "modules_to_not_convert": None,
        }
    }


def _is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """The matrices of the layers; the embedding and the head stay in half precision."""
    return name.startswith("blk.") and len(shape) == 2


class _Conversion:
    """The walk through the model."""

    def __init__(
        self, model: ModelFile, texts: Texts, method: Method, group: int, progress: Report | None
    ) -> None:
        self._model = model
        self._texts = texts
        self._method = method
        self._group = group
        self._progress = progress
        self._shapes = expected_tensors(model.config)
        self._streams: dict[str, list[F32]] = {}

    def described(self) -> list[Described]:
        """The tensors to be written, in order."""
        found: list[Described] = []
        for name, shape in self._shapes.items():
            if not _is_quantized(name, shape):
                found.append(Described(hf_name(name), "F16" if len(shape) == 2 else "F32", shape))
                continue
            (rows, cols), stem = shape, hf_name(name).removesuffix("weight")
            groups, words = -(-cols // self._group), rows // awq.PER_WORD
            found += [
                Described(stem + "qweight", "I32", (cols, words)),
                Described(stem + "qzeros", "I32", (groups, words)),
                Described(stem + "scales", "F16", (groups, rows)),
            ]
        return found

    def arrays(self) -> Iterator[Any]:
        """Each tensor of `described` in its parts."""
        made: dict[str, NDArray[Any] | QuantizedWeight] = {}
        layer = -1
        for name, shape in self._shapes.items():
            if not name.startswith("blk."):
                yield self._outer(name, shape)
                continue
            prefix = ".".join(name.split(".")[:2]) + "."
            if int(name.split(".")[1]) != layer:
                layer += 1
                weights, matrices = self._layer(layer)
                made = {**weights, **matrices}
            value = made.pop(name.removeprefix(prefix))
            if isinstance(value, QuantizedWeight):
                yield from ([part] for part in awq.pack(value))
            else:
                yield [value.astype("<f4")]

    def _outer(self, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        if len(shape) == 1:
            yield vector(self._model, name).astype("<f4")
        elif name == "token_embd.weight":
            self._streams = self._embedded()
            yield from (chunk.astype("<f2") for chunk in chunks(self._model, name))
        else:
            yield from (chunk.astype("<f2") for chunk in chunks(self._model, name))

    def _embedded(self) -> dict[str, list[F32]]:
        """The streams before the first layer."""
        texts = self._texts
        exact = self._rows_of([*texts.calibration, *texts.evaluated])
        rounded = [_as_loaded(window) for window in exact[len(texts.calibration) :]]
        streams = {"float": exact, "rtn": rounded}
        return streams | {"awq": list(rounded)} if self._method is Method.AWQ else streams

    def _rows_of(self, windows: list[list[int]]) -> list[F32]:
        found = [np.empty((len(w), self._model.config.hidden), np.float32) for w in windows]
        first = 0
        for chunk in chunks(self._model, "token_embd.weight"):
            for window, rows in zip(windows, found, strict=True):
                ids = np.array(window) - first
                here = (ids >= 0) & (ids < len(chunk))
                rows[here] = chunk[ids[here]]
            first += len(chunk)
        return found

    def _layer(self, layer: int) -> tuple[Weights, Matrices]:
        """Read, search, round and measure one layer; what is to be written of it."""
        config, streams = self._model.config, self._streams
        weights, seen = read_layer(self._model, layer), Inputs()
        guides = len(self._texts.calibration)
        before = streams["float"]
        streams["float"] = [
            *run_layer(config, weights, before[:guides], seen),
            *run_layer(config, weights, before[guides:], None),
        ]
        matrices = quantize(weights, self._group)
        streams["rtn"] = self._through(weights, matrices, streams["rtn"])
        if self._method is Method.AWQ:
            weights, matrices = quantize_aware(config, weights, seen, self._group)
            streams["awq"] = self._through(weights, matrices, streams["awq"])
        if self._progress is not None:
            self._progress(layer + 1, config.layers)
        return weights, matrices

    def _through(self, weights: Weights, matrices: Matrices, windows: list[F32]) -> list[F32]:
        found = each(QuantizedWeight.dequantize, matrices.values())
        rounded = weights | dict(zip(matrices, found, strict=True))
        return run_layer(self._model.config, rounded, windows, None)

    def measure(self) -> list[Measured]:
        """Each stream on the evaluation texts; asked for when all arrays have been."""
        losses, divergences = self._losses()
        sizes = {
            name: sum(len(window) - 1 for window in windows)
            for name, windows in self._texts.evaluation.items()
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        parts = {n: slice(end - sizes[n], end) for n, end in zip(sizes, ends, strict=True)}
        if len(parts) > 1:
            parts["all"] = slice(0, ends[-1])
        aware = self._method is Method.AWQ

        def of(name: str, part: slice) -> Measured:
            perplexity = {s: float(np.exp(loss[part].mean())) for s, loss in losses.items()}
            divergence = {s: float(d[part].mean()) for s, d in divergences.items()}
            return Measured(
                name,
                part.stop - part.start,
                perplexity["float"],
                perplexity["rtn"],
                perplexity["awq"] if aware else None,
                divergence["rtn"],
                divergence["awq"] if aware else None,
            )

        return [of(name, part) for name, part in parts.items()]

    def _losses(self) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Of each evaluated token in each stream: its loss, and the divergence from the float
        model of what was foreseen there. Both in nats, [tokens]
        """
        model, guides = self._model, len(self._texts.calibration)
        weight = vector(model, "output_norm.weight")
        wanted = np.concatenate([window[1:] for window in self._texts.evaluated])
        ends: dict[str, F32] = {}
        for stream, windows in self._streams.items():
            last = windows[guides:] if stream == "float" else windows
            normed = [rms_norm(x[:-1], weight, model.config.norm_eps) for x in last]
            ends[stream] = np.concatenate(normed)
        # Over the vocabulary in chunks: the logarithm of the sum of exponentials, the wanted
        # token's logit, and how far the float model's logits lie above on its own average.
        totals = {stream: np.full(len(wanted), -np.inf) for stream in ends}
        scores = {stream: np.empty(len(wanted)) for stream in ends}
        above = {stream: np.zeros(len(wanted)) for stream in ends}
        head = "token_embd.weight" if model.config.tied_embedding else "output.weight"
        first = 0

        def some_tokens(at: slice) -> None:
            ids = wanted[at] - first
            here = np.flatnonzero((ids >= 0) & (ids < len(chunk)))
            exact = (ends["float"][at] @ chunk.T).astype(np.float64)
            summed = _log_sum(exact)
            total = np.logaddexp(totals["float"][at], summed)
            before, now = np.exp(totals["float"][at] - total), np.exp(summed - total)
            odds = np.exp(exact - summed[:, None])
            for stream, end in ends.items():
                logits = exact
                if stream != "float":
                    logits = (end[at] @ loaded.T).astype(np.float64)
                    average = np.einsum("tv,tv->t", odds, exact - logits)
                    above[stream][at] = above[stream][at] * before + average * now
                totals[stream][at] = np.logaddexp(totals[stream][at], _log_sum(logits))
                scores[stream][at][here] = logits[here, ids[here]]

        for chunk in chunks(model, head):
            loaded = _as_loaded(chunk)
            each(some_tokens, [slice(i, i + WINDOW) for i in range(0, len(wanted), WINDOW)])
            first += len(chunk)
        return (
            {stream: totals[stream] - scores[stream] for stream in ends},
            {stream: above[stream] + totals[stream] - totals["float"] for stream in ends},
        )


def _log_sum(logits: Floats) -> Floats:
    """The logarithm of the sum of exponentials. [tokens, vocabulary] -> [tokens]"""
    largest = logits.max(axis=1)
    found: Floats = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return found


def _as_loaded(rows: F32) -> F32:
    """What the engine makes of rows that are stored in half precision: 8 bits."""
    return QuantizedWeight.quantize8(rows.astype(np.float16).astype(np.float32)).dequantize()

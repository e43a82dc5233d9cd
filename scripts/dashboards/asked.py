"""Forms of PromQL that several dashboards use."""

from __future__ import annotations

from typing import Final

AGENT: Final = 'instance=~"$agent"'
GATEWAY: Final = 'instance=~"$gateway"'
SERVER: Final = 'instance=~"$vllm"'


def per_second(name: str, labels: str, *by: str) -> str:
    """How fast a counter grows."""
    return f"sum{_by(*by)}(rate({name}{_of(labels)}[$__rate_interval]))"


def gained(name: str, labels: str, *by: str, window: str = "$__range") -> str:
    """By how much a counter has grown in the chosen range of time, or in `window`."""
    return f"sum{_by(*by)}(increase({name}{_of(labels)}[{window}]))"


def most(expr: str) -> str:
    """The largest first."""
    return f"sort_desc({expr})"


def quantile(of: float, name: str, labels: str, *by: str) -> str:
    """A histogram's quantile."""
    return f"histogram_quantile({of}, {per_second(f'{name}_bucket', labels, 'le', *by)})"


def mean(name: str, labels: str, *by: str) -> str:
    """A histogram's mean."""
    return ratio(f"{name}_sum", f"{name}_count", labels, *by)


def share(name: str, labels: str, part: str, *by: str) -> str:
    """How much of a counter's growth has `part` among its labels."""
    return f"{per_second(name, f'{labels},{part}', *by)} / {per_second(name, labels, *by)}"


def ratio(part: str, whole: str, labels: str, *by: str) -> str:
    """How fast one counter grows, by how fast another does."""
    return f"{per_second(part, labels, *by)} / {per_second(whole, labels, *by)}"


def or_zero(expr: str) -> str:
    """0 where nothing was counted yet: a counter by label has no series before its first."""
    return f"{expr} or vector(0)"


def _of(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _by(*labels: str) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""

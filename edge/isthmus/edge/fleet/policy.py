"""A bundle's policy over the device's own. It tunes; it loosens nothing that the owner has set.

What stays the owner's: that the cloud is used less or not at all (`preset` private or offline),
what may be paid, what it is worth that a request stays, whether answers may be raced, watched or
drafted for the cloud, and the share of requests that both tiers answer. Of these the stricter of
the two settings counts. Everything else a bundle sets stands over the device's own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from isthmus.core.bundle import BundleRefused, BundleState
from isthmus.core.errors import ConfigError
from isthmus.core.misspelt import wrong_settings
from isthmus.edge.choices import WORTHS
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.doubt.handover import CascadeConfig
from isthmus.router.presets import CloudUse

_WORTHS = ("preset", *WORTHS)
"""One answer to one question, what quality is worth: a bundle that gives a part gives the whole."""
_STRICTNESS = (CloudUse.WHEN_WORTH_MORE, CloudUse.WHEN_NEEDED, CloudUse.NEVER)


class _File(BaseModel):
    """What a bundle's TOML may hold."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    router: RouterConfig


def tuned(own: RouterConfig, policy_toml: str) -> RouterConfig:
    """The policy in effect on a device that is set to `own`. Raises `BundleRefused`."""
    if not policy_toml:
        return own
    try:
        tables = tomllib.loads(policy_toml)
    except ValueError as error:
        raise _broken(f"the bundle's policy is not valid TOML: {error}", "policy") from None
    given = tables.get("router", {})
    if not isinstance(given, Mapping):
        raise _broken("router must be a table", "router")
    base: dict[str, Any] = asdict(own)
    if not given.keys().isdisjoint(_WORTHS):
        base |= {name: value for name, value in asdict(RouterConfig()).items() if name in _WORTHS}
    try:
        wished = _File.model_validate(tables | {"router": _over(base, given)}).router
    except ValidationError as error:
        field, why = wrong_settings(error, _File)[0]
        why = why.replace("is no setting", "is no setting that a bundle may give", 1)
        raise _broken(f"{field}: {why}", field) from None
    except ConfigError as error:
        raise _broken(f"{error.field}: {error.message}", error.field or "router") from None
    return _no_looser(own, wished)


def _no_looser(own: RouterConfig, wished: RouterConfig) -> RouterConfig:
    stricter = max(own.preset, wished.preset, key=lambda p: _STRICTNESS.index(p.cloud_use))
    worths = [one for one in (own.leave_usd, wished.leave_usd) if one is not None]
    return replace(
        wished,
        preset=wished.preset if stricter.cloud_use is wished.preset.cloud_use else own.preset,
        # A worth of the preset's own stands in for a number that is not there.
        leave_usd=max(worths) if own.leave_usd is not None else wished.leave_usd,
        race=own.race and wished.race,
        shadow_share=min(own.shadow_share, wished.shadow_share),
        budget=_tighter(own.budget, wished.budget),
        cascade=_no_more_leaves(own.cascade, wished.cascade),
    )


def _tighter(own: BudgetLimits, wished: BudgetLimits) -> BudgetLimits:
    def least(name: str) -> Decimal | None:
        limits = [getattr(one, name) for one in (own, wished) if getattr(one, name) is not None]
        return min(limits, default=None)

    return replace(
        own,  # whose midnight counts too
        request_usd=least("request_usd"),
        day_usd=least("day_usd"),
        month_usd=least("month_usd"),
        longest_answer_tokens=min(own.longest_answer_tokens, wished.longest_answer_tokens),
    )


def _no_more_leaves(own: CascadeConfig, wished: CascadeConfig) -> CascadeConfig:
    return replace(
        wished,
        enabled=own.enabled and wished.enabled,
        verify_drafts=own.verify_drafts and wished.verify_drafts,
    )


def differences(own: RouterConfig, in_effect: RouterConfig) -> tuple[str, ...]:
    """The settings in which the two differ, by name."""
    return tuple(
        one.name for one in fields(own) if getattr(own, one.name) != getattr(in_effect, one.name)
    )


def _over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over `base`, table by table."""
    merged = dict(base)
    for name, value in given.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = _over(below, value)
        else:
            merged[name] = value
    return merged


def _broken(message: str, field: str) -> BundleRefused:
    return BundleRefused(message, BundleState.BROKEN, field=field)

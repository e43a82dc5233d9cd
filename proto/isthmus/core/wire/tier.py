"""What a tier says of itself, on the wire."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from isthmus.core.errors import InternalError
from isthmus.core.money import Price
from isthmus.core.tier import Load, ModelInfo
from isthmus.v1 import gateway_pb2


def info_to_wire(info: ModelInfo) -> gateway_pb2.GetModelInfoResponse:
    """The message for a model's description."""
    cached = info.price.cached_usd_per_mtok
    return gateway_pb2.GetModelInfoResponse(
        model=info.model,
        backend=info.backend,
        context_tokens=info.context_tokens,
        input_usd_per_mtok=str(info.price.input_usd_per_mtok),
        output_usd_per_mtok=str(info.price.output_usd_per_mtok),
        same_model_demo=info.same_model_demo,
        supports_tools=info.supports_tools,
        supports_images=info.supports_images,
        supports_json=info.supports_json,
        verifies_drafts=info.verifies_drafts,
        continues_answers=info.continues_answers,
        model_sha256=info.sha256,
        cached_usd_per_mtok="" if cached is None else str(cached),
    )


def info_from_wire(wire: gateway_pb2.GetModelInfoResponse) -> ModelInfo:
    """A model's description. Raises `InternalError` for a price that is none."""
    return ModelInfo(
        model=wire.model,
        backend=wire.backend,
        context_tokens=wire.context_tokens,
        price=Price(
            _price(wire.input_usd_per_mtok),
            _price(wire.output_usd_per_mtok),
            _price(wire.cached_usd_per_mtok) if wire.cached_usd_per_mtok else None,
        ),
        same_model_demo=wire.same_model_demo,
        supports_tools=wire.supports_tools,
        supports_images=wire.supports_images,
        supports_json=wire.supports_json,
        verifies_drafts=wire.verifies_drafts,
        continues_answers=wire.continues_answers,
        sha256=wire.model_sha256,
    )


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text or "0")
    except InvalidOperation:
        price = Decimal("NaN")
    # NaN and Infinity are decimals too, and end in an exception where money is counted.
    if not (price.is_finite() and price >= 0):
        raise InternalError("the gateway's price is not a decimal number of at least 0")
    return price


def load_to_wire(load: Load) -> gateway_pb2.GetLoadResponse:
    """The message for how busy a tier is."""
    return gateway_pb2.GetLoadResponse(
        running_requests=load.running_requests,
        waiting_requests=load.waiting_requests,
        max_running_requests=load.max_running_requests,
        max_waiting_requests=load.max_waiting_requests,
        draining=load.draining,
    )


def load_from_wire(wire: gateway_pb2.GetLoadResponse) -> Load:
    """How busy a tier is."""
    return Load(
        running_requests=wire.running_requests,
        waiting_requests=wire.waiting_requests,
        max_running_requests=wire.max_running_requests,
        max_waiting_requests=wire.max_waiting_requests,
        draining=wire.draining,
    )

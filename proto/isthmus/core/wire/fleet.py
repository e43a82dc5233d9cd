"""Bundles, and what devices tell of themselves, on the wire."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from google.protobuf.message import DecodeError

from isthmus.core.bundle import FORMAT, Bundle, BundleRefused, BundleState, SignedBundle
from isthmus.core.money import Price
from isthmus.v1 import fleet_pb2

BUNDLE_STATES: Final = {
    BundleState.IN_USE: fleet_pb2.BUNDLE_STATE_IN_USE,
    BundleState.BAD_SIGNATURE: fleet_pb2.BUNDLE_STATE_BAD_SIGNATURE,
    BundleState.TOO_NEW: fleet_pb2.BUNDLE_STATE_TOO_NEW,
    BundleState.REPLAYED: fleet_pb2.BUNDLE_STATE_REPLAYED,
    BundleState.BROKEN: fleet_pb2.BUNDLE_STATE_BROKEN,
    BundleState.WORSE: fleet_pb2.BUNDLE_STATE_WORSE,
    BundleState.CRASHED: fleet_pb2.BUNDLE_STATE_CRASHED,
}


def bundle_to_bytes(bundle: Bundle) -> bytes:
    """The payload: what is signed."""
    wire = fleet_pb2.Bundle(
        format=FORMAT,
        sequence=bundle.sequence,
        version=bundle.version,
        created_unix_s=bundle.created_unix_s,
        rolls_back_to=bundle.rolls_back_to,
        policy_toml=bundle.policy_toml,
        router_file=bundle.router_file,
        kernel_choices_json=bundle.kernel_choices_json,
    )
    if bundle.price is not None:
        wire.price.input_usd_per_mtok = str(bundle.price.input_usd_per_mtok)
        wire.price.output_usd_per_mtok = str(bundle.price.output_usd_per_mtok)
        if bundle.price.cached_usd_per_mtok is not None:
            wire.price.cached_usd_per_mtok = str(bundle.price.cached_usd_per_mtok)
    return wire.SerializeToString(deterministic=True)


def bundle_from_bytes(payload: bytes) -> Bundle:
    """The bundle of a payload whose signature was checked. Raises `BundleRefused`."""
    try:
        wire = fleet_pb2.Bundle.FromString(payload)
    except DecodeError:
        raise BundleRefused("the bundle cannot be read", BundleState.BROKEN) from None
    if wire.format > FORMAT:
        raise BundleRefused(
            f"the bundle's format is {wire.format}, and {FORMAT} is the newest that this software "
            "reads: upgrade the device",
            BundleState.TOO_NEW,
            field="format",
            sequence=wire.sequence,
        )
    if wire.format < 1 or wire.sequence < 1:
        raise BundleRefused(
            "the bundle has no format or no sequence", BundleState.BROKEN, field="sequence"
        )
    return Bundle(
        sequence=wire.sequence,
        version=wire.version,
        created_unix_s=wire.created_unix_s,
        rolls_back_to=wire.rolls_back_to if wire.HasField("rolls_back_to") else None,
        policy_toml=wire.policy_toml,
        price=_price(wire.price) if wire.HasField("price") else None,
        router_file=wire.router_file,
        kernel_choices_json=wire.kernel_choices_json,
    )


def _price(wire: fleet_pb2.BundlePrice) -> Price:
    cached = wire.cached_usd_per_mtok
    return Price(
        _usd(wire.input_usd_per_mtok, "price.input_usd_per_mtok"),
        _usd(wire.output_usd_per_mtok, "price.output_usd_per_mtok"),
        _usd(cached, "price.cached_usd_per_mtok") if cached else None,
    )


def _usd(text: str, field: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("nan")
    if not (usd.is_finite() and usd >= 0):
        raise BundleRefused(f"{field} is no price", BundleState.BROKEN, field=field)
    return usd


def signed_to_wire(bundle: SignedBundle) -> fleet_pb2.SignedBundle:
    """The message for `bundle`."""
    return fleet_pb2.SignedBundle(payload=bundle.payload, signature=bundle.signature)


def signed_from_wire(wire: fleet_pb2.SignedBundle) -> SignedBundle:
    """The bundle of a message, not checked yet."""
    return SignedBundle(wire.payload, wire.signature)

"""`isthmus cloud fleet`: what devices run, and how an operator changes it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import cloud_fleet_view
from isthmus.core.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from isthmus.cloud.fleet.stages import Stage
    from isthmus.cloud.fleet.store import FleetStore
    from isthmus.core.bundle import Bundle, OperatorKey
    from isthmus.core.money import Price

app = typer.Typer(
    help="Hand signed bundles (policy, prices, router file, kernel choices) to devices.",
    no_args_is_help=True,
)

Config = Annotated[
    Path | None, typer.Option(help="The gateway's TOML file; ISTHMUS_CLOUD_* go over it.")
]
Tenant = Annotated[str, typer.Option(help="Whose devices: the tenant of their tokens.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]
Key = Annotated[Path, typer.Option(help="The operator's private key (isthmus cloud fleet key).")]
Percent = Annotated[
    float | None, typer.Option(help="The share of devices (of these classes) that are handed it.")
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="A class of devices; may be repeated.")
]
NewKey = Annotated[
    bool, typer.Option("--new-key", help="Devices have pinned this key in another's place.")
]
Devices = Annotated[
    list[str] | None, typer.Option("--device", help="A device by its name; may be repeated.")
]


@app.command(epilog="Example: isthmus cloud fleet key operator.pem")
def key(
    path: Annotated[Path, typer.Argument(help="Where the private key goes; FILE.pub beside it.")],
    as_json: AsJson = False,
) -> None:
    """Make the key that signs bundles. Devices pin its public half (fleet.key_file)."""
    from isthmus.core.bundle import OperatorKey

    made, public = OperatorKey.new(), path.with_name(path.name + ".pub")
    try:
        # Never over a key that devices have pinned, and for its owner alone from the first byte.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(made.pem())
        public.write_bytes(made.public_pem())
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror})", field="path") from None
    if as_json:
        print(json.dumps({"key": str(path), "public": str(public)}))
    else:
        print(f"{path} signs bundles: keep it to yourself, no gateway and no device needs it")
        print(f'{public} goes to the devices: [fleet] key_file = "{public.name}"')


@app.command(
    epilog="Example: isthmus cloud fleet publish --key operator.pem --version cheaper "
    "--policy policy.toml --percent 5"
)
def publish(
    key: Key,
    version: Annotated[str, typer.Option(help="Your name for it, e.g. a date and a purpose.")],
    policy: Annotated[
        Path | None, typer.Option(help="A settings file with the agent's table [router].")
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(help="Dollars per million tokens: in,out or in,cached,out, e.g. 0.15,0.60"),
    ] = None,
    router_file: Annotated[
        Path | None, typer.Option(help="A trained file (isthmus route train).")
    ] = None,
    kernels: Annotated[
        Path | None, typer.Option(help="Kernel choices (isthmus tune --export).")
    ] = None,
    percent: Percent = None,
    device_class: Classes = None,
    device: Devices = None,
    new_key: NewKey = False,
    tenant: Tenant = "local",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Sign a bundle and hand it to a stage of devices: all of them, unless told otherwise."""
    from isthmus.core.bundle import Bundle

    operator = _key(key)
    stage = _stage(percent, device_class, device)
    with _store(config) as store:
        bundle = Bundle(
            sequence=store.next_sequence(tenant),
            version=version,
            created_unix_s=int(time.time()),
            policy_toml="" if policy is None else _text(policy, "--policy"),
            price=None if price is None else _price(price),
            router_file=b"" if router_file is None else _bytes(router_file, "--router-file"),
            kernel_choices_json="" if kernels is None else _text(kernels, "--kernels"),
        )
        _check_key(store, tenant, operator, new_key=new_key)
        _publish(store, tenant, bundle, operator, stage)
    known = {"sequence": bundle.sequence, "version": bundle.version}
    cloud_fleet_view.told(tenant, known, stage, as_json=as_json)


@app.command(epilog="Example: isthmus cloud fleet stage 7 --percent 50")
def stage(
    sequence: Annotated[int, typer.Argument(help="The bundle.")],
    percent: Percent = None,
    device_class: Classes = None,
    device: Devices = None,
    tenant: Tenant = "local",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Hand a bundle to another stage from now on: all devices, unless told otherwise.

    Devices that have it keep it: only rollback takes it back.
    """
    stage = _stage(percent, device_class, device)
    with _store(config) as store:
        store.stage(tenant, sequence, stage)
    cloud_fleet_view.told(tenant, {"sequence": sequence}, stage, as_json=as_json)


@app.command(epilog="Example: isthmus cloud fleet rollback --key operator.pem")
def rollback(
    key: Key,
    to: Annotated[
        int | None,
        typer.Option(help="The bundle to bring back; 0: the devices' own settings alone."),
    ] = None,
    new_key: NewKey = False,
    tenant: Tenant = "local",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Bring back an earlier bundle, for all devices: as a new one, for they take no older ones.

    Without --to it is the last one before the latest that all devices were to have.
    """
    operator, stage = _key(key), _stage(None, None, None)
    with _store(config) as store:
        bundle = _brought_back(store, tenant, to, stage)
        _check_key(store, tenant, operator, new_key=new_key)
        _publish(store, tenant, bundle, operator, stage)
    known = {"sequence": bundle.sequence, "version": bundle.version}
    cloud_fleet_view.told(tenant, known, stage, as_json=as_json)


@app.command(epilog="Example: isthmus cloud fleet status --devices 20")
def status(
    devices: Annotated[
        int, typer.Option(min=0, max=100_000, help="List so many devices, last seen first.")
    ] = 0,
    tenant: Tenant = "local",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell the bundles, who is meant to run each, who runs it, and who refused it and why."""
    with _store(config) as store:
        found = cloud_fleet_view.summary(store, tenant, devices)
    if as_json:
        print(json.dumps(found))
    else:
        cloud_fleet_view.show(found)


# --- what the commands share ------------------------------------------------------------------


@contextlib.contextmanager
def _store(config: Path | None) -> Iterator[FleetStore]:
    """The fleet in the gateway's database."""
    from isthmus.cloud.config import CloudConfig
    from isthmus.cloud.fleet.store import FleetStore
    from isthmus.cloud.ledger.database import make_engine

    settings = CloudConfig.load(config).ledger
    store = FleetStore(make_engine(settings.existing_url(), timeout_s=settings.wait_s))
    try:
        store.open()
        yield store
    finally:
        store.close()


def _publish(
    store: FleetStore, tenant: str, bundle: Bundle, key: OperatorKey, stage: Stage
) -> None:
    """Sign and keep `bundle`, once it has passed the checks that devices make."""
    from isthmus.core.bundle import BundleRefused, PinnedKeys
    from isthmus.core.wire.fleet import bundle_from_bytes, bundle_to_bytes
    from isthmus.edge.fleet.parts import check_parts

    signed = key.sign(bundle_to_bytes(bundle))
    try:
        PinnedKeys.from_pem(key.public_pem()).check(signed)
        check_parts(bundle_from_bytes(signed.payload))
    except BundleRefused as error:
        raise InvalidRequest(
            f"every device would refuse this bundle: {error.message}", field=error.field
        ) from None
    store.publish(tenant, signed, stage)


def _check_key(store: FleetStore, tenant: str, key: OperatorKey, *, new_key: bool) -> None:
    """Refuse another key than the last bundle's: devices would refuse what it signs."""
    from isthmus.core.bundle import BundleRefused, PinnedKeys

    published = store.published(tenant)
    if not published or new_key:
        return
    try:
        PinnedKeys.from_pem(key.public_pem()).check(store.bundle(tenant, published[0].sequence))
    except BundleRefused:
        raise InvalidRequest(
            f"another key has signed bundle {published[0].sequence}, so devices will refuse this "
            "one's; once they have pinned it too: --new-key",
            field="--key",
        ) from None


def _brought_back(store: FleetStore, tenant: str, to: int | None, stage: Stage) -> Bundle:
    """A new bundle with the content of an earlier one: `to`, or the last that went to `stage`."""
    from dataclasses import replace

    from isthmus.core.bundle import Bundle
    from isthmus.core.wire.fleet import bundle_from_bytes

    published = store.published(tenant)
    if not published:
        raise InvalidRequest("there is no bundle to go back from", field="--to")
    latest = published[0]
    if to is None:
        # From a roll-back it goes back further, never forth again.
        given_up = latest.sequence if latest.rolls_back_to is None else latest.rolls_back_to
        # One that was tried on a few, and went no further, is no way out for all.
        went = (one for one in published if one.stage == stage)
        to = max((one.sequence for one in went if one.sequence < given_up), default=0)
    content = Bundle(0, "") if to == 0 else bundle_from_bytes(store.bundle(tenant, to).payload)
    version = "the devices' own settings" if to == 0 else f"back to {content.version}"
    return replace(
        content,
        sequence=latest.sequence + 1,
        version=version,
        created_unix_s=int(time.time()),
        rolls_back_to=to,
    )


def _key(path: Path) -> OperatorKey:
    from isthmus.core.bundle import OperatorKey

    return OperatorKey.from_pem(_bytes(path, "--key"))


def _bytes(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read ({error.strerror})", field=flag) from None


def _text(path: Path, flag: str) -> str:
    try:
        return _bytes(path, flag).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not UTF-8", field=flag) from None


def _price(text: str) -> Price:
    from isthmus.core.money import Price

    try:
        figures = [Decimal(part) for part in text.split(",")]
        if len(figures) == 2:
            return Price(figures[0], figures[1])
        first, cached, last = figures
    except (InvalidOperation, ValueError):
        raise InvalidRequest(
            "--price is dollars per million tokens: in,out or in,cached,out", field="--price"
        ) from None
    return Price(first, last, cached)


def _stage(percent: float | None, classes: list[str] | None, devices: list[str] | None) -> Stage:
    """Named devices alone, when nothing else is named; else the share of the classes too."""
    from isthmus.cloud.fleet.stages import Stage

    share = percent if percent is not None else (0.0 if devices and not classes else 100.0)
    return Stage(share, tuple(classes or ()), tuple(devices or ()))

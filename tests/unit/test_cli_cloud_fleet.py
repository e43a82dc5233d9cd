"""`isthmus cloud fleet`: what an operator is told, and kept from."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fleet_operator import Operator
from isthmus.cli.main import main
from isthmus.cloud.fleet.store import FleetStore
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.database import make_engine, sqlite_url
from isthmus.core.wire.fleet import bundle_from_bytes
from isthmus.router.learned.router_file import shipped


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)
    return Operator(tmp_path / "operator")


def test_the_private_key_is_its_owners_alone_and_never_overwritten(operator: Operator) -> None:
    assert stat.S_IMODE(operator.key.stat().st_mode) == 0o600
    before = operator.key.read_bytes()
    with pytest.raises(AssertionError, match="exists"):
        operator.run("key", str(operator.key))
    assert operator.key.read_bytes() == before


def test_every_part_goes_into_the_bundle_and_comes_back_with_it(
    operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "new.router"
    file.write_bytes(shipped().to_bytes())
    operator.publish("answer_tokens = 9", "--price", "0.1,0.05,0.4", "--router-file", str(file))
    operator.publish("answer_tokens = 10")
    assert operator.rollback("--to", "1") == 3
    store = FleetStore(make_engine(sqlite_url(operator.database)))
    first, back = (bundle_from_bytes(store.bundle("local", n).payload) for n in (1, 3))
    store.close()
    assert back.router_file == first.router_file == file.read_bytes()
    assert (back.policy_toml, back.price) == (first.policy_toml, first.price)
    assert back.price is not None
    assert str(back.price.cached_usd_per_mtok) == "0.05"
    assert (back.version, back.rolls_back_to) == ("back to v", 1)


def test_roll_backs_go_further_back_and_end_at_the_devices_own_settings(
    operator: Operator,
) -> None:
    for answer_tokens in (1, 2, 3):
        operator.publish(f"answer_tokens = {answer_tokens}")
    back_to = [operator.bundle(operator.rollback())["rolls_back_to"] for _ in range(4)]
    assert back_to == [2, 1, 0, 0]


def test_a_roll_back_spreads_no_bundle_that_was_tried_on_a_few(operator: Operator) -> None:
    operator.publish("answer_tokens = 1")
    operator.publish("answer_tokens = 2", "--percent", "5")
    operator.publish("answer_tokens = 3")
    assert operator.bundle(operator.rollback())["rolls_back_to"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("stage", "9"), "there is no bundle 9"),
        (("stage", "1", "--percent", "200"), "percent must be from 0 to 100"),
        (("rollback", "--key", "{key}"), "there is no bundle to go back from"),
        (("rollback", "--key", "{public}"), "is no Ed25519 private key"),
        (("publish", "--key", "{key}", "--version", "v", "--price", "x"), "--price is dollars"),
        (("publish", "--key", "{key}", "--version", "v", "--price=-1,2"), "no price"),
        (("publish", "--key", "{key}", "--version", "v", "--policy", "no.toml"), "No such file"),
        (("publish", "--key", "{key}", "--version", "v", "--router-file", "{key}"), "router file"),
        (("publish", "--key", "{key}", "--version", "v", "--kernels", "{key}"), "kernel choices"),
    ],
)
def test_what_cannot_be_is_refused_and_named(
    operator: Operator, arguments: tuple[str, ...], told: str
) -> None:
    known = {"{key}": str(operator.key), "{public}": str(operator.public)}
    with pytest.raises(AssertionError, match=told):
        operator.run(*(known.get(one, one) for one in arguments))
    assert operator.run("status")["bundles"] == []


def test_a_policy_that_every_device_would_refuse_is_never_published(operator: Operator) -> None:
    for policy in ("preset = 'bold'", "[privacy]\nconsent = true", "threshold = 7"):
        with pytest.raises(AssertionError, match="every device would refuse"):
            operator.publish(policy)
    assert operator.run("status")["bundles"] == []


def test_another_key_than_the_last_ones_has_to_be_meant(operator: Operator) -> None:
    operator.publish("answer_tokens = 1")
    operator.key = operator.folder / "next.pem"
    operator.run("key", str(operator.key))
    with pytest.raises(AssertionError, match="another key has signed bundle 1"):
        operator.publish("answer_tokens = 2")
    assert operator.publish("answer_tokens = 2", "--new-key") == 2
    assert operator.publish("answer_tokens = 3") == 3


def test_people_see_who_is_meant_and_nothing_is_cut(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.publish("answer_tokens = 1", "--percent", "5", "--class", "phone", "--device", "r-1")
    with pytest.raises(SystemExit):
        main(["cloud", "fleet", "status", "--config", str(operator.folder / "gateway.toml")])
    assert "5 % of phone, and r-1" in capsys.readouterr().out


def test_a_gateway_that_keeps_nothing_has_no_bundles(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (operator.folder / "gateway.toml").write_text('[ledger]\nkind = "off"\n')
    with pytest.raises(AssertionError, match="nothing is kept"):
        operator.run("status")


def test_no_bundle_goes_into_a_database_that_no_gateway_has_made(operator: Operator) -> None:
    operator.database.unlink()
    with pytest.raises(AssertionError, match="there is no ledger at"):
        operator.publish("answer_tokens = 1")
    assert not operator.database.exists()


def test_an_operator_who_forgets_the_tenant_is_told_whose_devices_came(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FleetStore(make_engine(sqlite_url(operator.database)))
    store.reported(Caller("acme", "phone-7", "phone"))
    store.close()
    with pytest.raises(SystemExit):
        main(["cloud", "fleet", "status", "--config", str(operator.folder / "gateway.toml")])
    told = capsys.readouterr().out
    assert "0 devices of tenant local" in told
    assert "--tenant acme" in told

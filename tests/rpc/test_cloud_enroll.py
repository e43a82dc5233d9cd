"""`isthmus cloud enroll` and its kin, up to the door of a real gateway."""

from __future__ import annotations

import json
import stat
import threading
import tomllib
from contextlib import asynccontextmanager

import jwt
import pytest

from isthmus.cli.main import main
from isthmus.cloud.identity.base import Scope
from isthmus.cloud.identity.issuer import Issuer
from isthmus.cloud.identity.jwks import read_jwks
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core.errors import Unauthenticated, Unavailable
from isthmus.edge.config import EdgeConfig
from isthmus.edge.gateway import gateway_of
from isthmus.edge.remote import RemoteTier

pytestmark = pytest.mark.usefixtures("files_always_looked_at")

DAY_S = 86_400


class Fleet:
    """`isthmus cloud …` on a folder of keys, and gateways that let its devices in."""

    def __init__(self, folder, capsys):
        self.folder = folder
        self.issuer = Issuer(folder)
        self._capsys = capsys

    def run(self, *arguments):
        """Exit status, stdout, stderr."""
        with pytest.raises(SystemExit) as caught:
            main(["cloud", *arguments, "--folder", str(self.folder)])
        said = self._capsys.readouterr()
        return int(caught.value.code or 0), said.out.strip(), said.err

    def token(self, device, *more):
        status, token, _ = self.run("enroll", device, "--tenant", "acme", *more)
        assert status == 0
        return token

    def states(self):
        listed = json.loads(self.run("devices", "--json")[1])["devices"]
        return {row["device"]: row["state"] for row in listed}

    @asynccontextmanager
    async def gateway(self, **settings):
        auth = {
            "jwks_file": self.issuer.jwks_file,
            "revoked_file": self.issuer.revoked_file,
            "issuer": "isthmus-enroll",
            "audience": "isthmus",
        }
        config = gateway_config(**{"auth": auth} | settings)
        gateway = Gateway(config, ScriptedBackend())
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.stop()


@pytest.fixture
def fleet(tmp_path, capsys):
    return Fleet(tmp_path / "identity", capsys)


async def gets_in(gateway, token=None, **files):
    settings = {f"gateway_{name}": value for name, value in files.items()}
    tier = RemoteTier(gateway_of(gateway.address, EdgeConfig(gateway_token=token, **settings)))
    try:
        await tier.info()
    except (Unauthenticated, Unavailable):
        return False
    finally:
        await tier.close()
    return True


async def test_an_enrolled_device_gets_in_until_it_is_revoked(fleet):
    phone, car = fleet.token("phone-7"), fleet.token("car-1")
    async with fleet.gateway() as gateway:
        assert await gets_in(gateway, phone)
        assert fleet.run("revoke", "acme/phone-7")[0] == 0
        assert not await gets_in(gateway, phone)
        assert await gets_in(gateway, car)
    assert fleet.states() == {"phone-7": "revoked", "car-1": "good"}
    status, _, said = fleet.run("enroll", "phone-7", "--tenant", "acme")
    assert (status, "acme/phone-7 is revoked" in said) == (2, True)


async def test_one_token_is_revoked_and_the_device_has_another(fleet):
    lost, new = json.loads(fleet.token("phone-7", "--json")), fleet.token("phone-7")
    assert fleet.run("revoke", lost["token_id"])[0] == 0
    async with fleet.gateway() as gateway:
        assert not await gets_in(gateway, lost["token"])
        assert await gets_in(gateway, new)


async def test_a_new_key_leaves_the_tokens_of_the_old_one_good(fleet):
    old = fleet.token("old")
    async with fleet.gateway() as gateway:
        assert fleet.run("rotate-key")[0] == 0
        new = fleet.token("new")
        assert [await gets_in(gateway, token) for token in (old, new)] == [True, True]
        assert fleet.run("rotate-key", "--at-once")[0] == 0
        assert [await gets_in(gateway, token) for token in (old, new)] == [False, False]
        assert await gets_in(gateway, fleet.token("newer"))
    assert fleet.states() == {"old": "revoked", "new": "revoked", "newer": "good"}


def test_an_old_key_is_gone_once_its_tokens_are(fleet):
    now_s = [1_000_000_000.0]
    issuer = Issuer(fleet.folder, clock=lambda: now_s[0])

    def enroll(device, days):
        options = {"device_class": "phone", "audience": "isthmus", "scopes": list(Scope)}
        return issuer.enroll("acme", device, days=days, **options)[1].key_id

    first = enroll("a", 10)
    issuer.rotate()
    second = enroll("b", 10)
    assert set(read_jwks(issuer.jwks_file)) == {first, second}
    now_s[0] += 11 * DAY_S
    third = enroll("c", 10)
    assert third == second
    assert set(read_jwks(issuer.jwks_file)) == {second}


async def test_a_device_gets_in_by_the_certificate_that_it_was_enrolled_with(fleet, tmp_path):
    assert fleet.run("certify", "127.0.0.1", "gw.example", "--to", str(tmp_path / "gw"))[0] == 0
    token = fleet.token("phone-7", "--certificate", str(tmp_path / "phone"))
    other = fleet.token("phone-8")
    mine = {
        "ca_file": tmp_path / "phone" / "ca.pem",
        "cert_file": tmp_path / "phone" / "device.pem",
        "key_file": tmp_path / "phone" / "device-key.pem",
    }
    as_server = {
        "ca_file": mine["ca_file"],
        "cert_file": tmp_path / "gw" / "server.pem",
        "key_file": tmp_path / "gw" / "server-key.pem",
    }
    tls = {
        "tls_cert_file": as_server["cert_file"],
        "tls_key_file": as_server["key_file"],
        "tls_client_ca_file": fleet.folder / "ca.pem",
    }
    revoked = {"revoked_file": fleet.issuer.revoked_file}
    async with fleet.gateway(**tls, auth=revoked) as gateway:
        assert await gets_in(gateway, **mine)
        assert not await gets_in(gateway, ca_file=mine["ca_file"])
        assert not await gets_in(gateway, **as_server)
        fleet.run("revoke", "acme/phone-7")
        assert not await gets_in(gateway, **mine)
    fleet.issuer.revoked_file.write_text("")
    async with fleet.gateway(**tls) as gateway:
        assert await gets_in(gateway, token, **mine)
        assert not await gets_in(gateway, other, **mine)


def test_the_first_enrolment_says_what_the_gateway_needs(fleet):
    said = fleet.run("enroll", "phone-7", "--audience", "ours")[2]
    auth = tomllib.loads(said[said.index("[auth]") :])["auth"]
    assert auth == {
        "jwks_file": str(fleet.issuer.jwks_file),
        "revoked_file": str(fleet.issuer.revoked_file),
        "issuer": "isthmus-enroll",
        "audience": "ours",
    }
    assert "[auth]" not in fleet.run("enroll", "phone-8", "--audience", "ours")[2]


def test_a_token_says_what_was_asked_for(fleet):
    more = ["--class", "phone", "--scope", "report", "--scope", "sync", "--days", "7"]
    claims = jwt.decode(fleet.token("phone-7", *more), options={"verify_signature": False})
    told = {name: claims[name] for name in ("iss", "aud", "sub", "tenant", "device_class")}
    assert told == {
        "iss": "isthmus-enroll",
        "aud": "isthmus",
        "sub": "phone-7",
        "tenant": "acme",
        "device_class": "phone",
    }
    assert claims["scope"] == "report sync"
    assert claims["exp"] - claims["iat"] == 7 * DAY_S


def test_secrets_are_their_owners_alone(fleet, tmp_path):
    token = fleet.token("phone-7", "--certificate", str(tmp_path / "phone"))
    for path in (
        fleet.folder / "signing-key.pem",
        fleet.folder / "ca-key.pem",
        tmp_path / "phone" / "device-key.pem",
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "PRIVATE KEY" in path.read_text()
    assert stat.S_IMODE(fleet.folder.stat().st_mode) == 0o700
    public = "".join(path.read_text() for path in fleet.folder.iterdir() if "key" not in path.name)
    assert "PRIVATE" not in public
    assert token not in public
    assert '"d"' not in public


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enroll", "a/b"], "device must be of the form"),
        (["enroll", "a", "--tenant", "x y"], "tenant must be of the form"),
        (["enroll", "a", "--class", "A Phone"], "class must be of the form"),
        (["enroll", "a", "--scope", "all"], "generate, report, sync"),
        (["enroll", "a", "--days", "0"], "--days"),
        (["revoke", "nobody"], "nothing was issued"),
    ],
)
def test_misuse_ends_with_status_2_and_says_why(fleet, arguments, said):
    status, out, error = fleet.run(*arguments)
    assert (status, out) == (2, "")
    assert said in error
    assert not fleet.issuer.issued()


@pytest.mark.parametrize("name", ["signing-key.pem", "devices.json", "jwks.json"])
def test_a_broken_file_is_named_and_not_written_over(fleet, name):
    fleet.token("phone-7")
    (fleet.folder / name).write_text("broken")
    status, _, said = fleet.run("enroll", "phone-8")
    assert (status, name in said) == (2, True)
    assert (fleet.folder / name).read_text() == "broken"


def test_a_folder_that_cannot_be_written_is_named(fleet, tmp_path):
    (tmp_path / "file").write_text("")
    fleet.folder = tmp_path / "file" / "in-it"
    status, _, said = fleet.run("enroll", "phone-7")
    assert (status, "cannot be written" in said) == (2, True)


def test_devices_that_are_enrolled_at_once_are_all_remembered(fleet):
    def enroll(number):
        fleet.issuer.enroll("acme", f"d{number}", device_class="x", scopes=[], audience="a", days=1)

    threads = [threading.Thread(target=enroll, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.device for one in fleet.issuer.issued()} == {f"d{number}" for number in range(8)}
    assert len(read_jwks(fleet.issuer.jwks_file)) == 1

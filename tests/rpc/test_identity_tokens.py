"""Device tokens: which of them open the door, and what a refused caller learns."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asked import anew
from device_tokens import AUDIENCE, ISSUER, Call, Signer, auth_settings, write_jwks
from isthmus.cloud import identity
from isthmus.cloud.identity import AuthConfig, Caller, Refusal, Refused, Scope
from isthmus.cloud.identity.bearer import Anyone
from isthmus.cloud.identity.jwks import key_of, read_jwks
from isthmus.cloud.identity.tokens import TokenAuthenticator
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import chat
from isthmus.core.errors import ConfigError, PermissionDenied, Unauthenticated
from isthmus.edge.remote import RemoteConfig, RemoteTier

SIGNER = Signer()
STRANGER = Signer()  # the same kid, another key
REQUEST = chat.ChatRequest(
    "r1", (chat.Message(chat.Role.USER, (chat.TextPart("What is the capital of France?"),)),)
)


def door(*signers, revoked=frozenset(), **settings):
    """An authenticator that knows these signers."""
    keys = {signer.kid: key_of(signer.jwk, "k", "f") for signer in signers or (SIGNER,)}
    config = AuthConfig(jwks_file="j", issuer=ISSUER, audience=AUDIENCE, **settings)
    return TokenAuthenticator(config, lambda: keys, lambda: revoked)


def segment(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(algorithm="none", **header):
    _, claims, _ = SIGNER.token().split(".")
    return f"{segment({'alg': algorithm, 'typ': 'JWT', 'kid': 'k1'} | header)}.{claims}."


def signed_with_the_public_key(algorithm="HS256"):
    """The confusion of RFC 8725, section 2.1: the public key taken for a shared secret."""
    head = unsigned(algorithm).rstrip(".")
    secret = json.dumps(SIGNER.jwk).encode()
    mac = base64.urlsafe_b64encode(hmac.digest(secret, head.encode(), "sha256"))
    return f"{head}.{mac.rstrip(b'=').decode()}"


def tampered():
    header, claims, signature = SIGNER.token().split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return f"{header}.{segment(told | {'tenant': 'other'})}.{signature}"


def now_s(more=0):
    return int(time.time()) + more


# Made when they are used: they expire.
WRONG = [
    ("unsigned", unsigned, Refusal.ALGORITHM),
    ("unsigned, oddly spelt", lambda: unsigned("nOnE"), Refusal.ALGORITHM),
    ("shared secret", signed_with_the_public_key, Refusal.ALGORITHM),
    ("algorithm of another key", lambda: Signer("k1", "EdDSA").token(), Refusal.ALGORITHM),
    ("algorithm that is not allowed", lambda: Signer("k1", "ES384").token(), Refusal.ALGORITHM),
    ("algorithm that is no text", lambda: unsigned(["ES256"]), Refusal.ALGORITHM),
    ("another's key under our kid", STRANGER.token, Refusal.SIGNATURE),
    ("changed claims", tampered, Refusal.SIGNATURE),
    ("unknown kid", lambda: Signer("k2").token(), Refusal.KEY),
    ("kid that is a path", lambda: SIGNER.token(headers={"kid": "../../dev/null"}), Refusal.KEY),
    ("no kid", lambda: SIGNER.token(headers={"kid": ""}), Refusal.KEY),
    (
        "key that the token brings",
        lambda: STRANGER.token(
            headers={"kid": "x", "jwk": STRANGER.jwk, "jku": "http://127.0.0.1:9"}
        ),
        Refusal.KEY,
    ),
    (
        "unknown critical header",
        lambda: SIGNER.token(headers={"crit": ["x"], "x": 1}),
        Refusal.MALFORMED,
    ),
    ("expired", lambda: SIGNER.token(exp=now_s(-31)), Refusal.EXPIRED),
    ("expires beyond all numbers", lambda: SIGNER.token(exp=10**400), Refusal.MALFORMED),
    ("expires in words", lambda: SIGNER.token(exp=str(now_s(60))), Refusal.EXPIRED),
    ("valid later", lambda: SIGNER.token(nbf=now_s(300)), Refusal.EARLY),
    ("issued in the future", lambda: SIGNER.token(iat=now_s(300)), Refusal.EARLY),
    ("for others", lambda: SIGNER.token(aud="billing"), Refusal.AUDIENCE),
    ("for others, several", lambda: SIGNER.token(aud=["billing", "mail"]), Refusal.AUDIENCE),
    ("from others", lambda: SIGNER.token(iss="https://elsewhere.example"), Refusal.ISSUER),
    ("no expiry", lambda: SIGNER.token(without=("exp",)), Refusal.CLAIMS),
    ("no audience", lambda: SIGNER.token(without=("aud",)), Refusal.CLAIMS),
    ("no issuer", lambda: SIGNER.token(without=("iss",)), Refusal.CLAIMS),
    ("no device", lambda: SIGNER.token(without=("sub",)), Refusal.CLAIMS),
    ("no tenant", lambda: SIGNER.token(without=("tenant",)), Refusal.CLAIMS),
    ("device with a line break", lambda: SIGNER.token(sub="a\nb"), Refusal.CLAIMS),
    ("tenant of two parts", lambda: SIGNER.token(tenant="acme/other"), Refusal.CLAIMS),
    ("tenant that is a list", lambda: SIGNER.token(tenant=["acme"]), Refusal.CLAIMS),
    ("bound to a key", lambda: SIGNER.token(cnf={"x5t#S256": "A"}), Refusal.CLAIMS),
    ("no token", lambda: "hush", Refusal.MALFORMED),
    ("two parts", lambda: "a.b", Refusal.MALFORMED),
    ("five parts, encrypted", lambda: "a.b.c.d.e", Refusal.MALFORMED),
    ("too long", lambda: "a" * 9000, Refusal.MALFORMED),
    ("deeply nested", lambda: f"{'W' * 6000}.e30.", Refusal.MALFORMED),
]


def reason_of(authenticator, call):
    with pytest.raises(Refused) as caught:
        authenticator.authenticate(call)
    return caught.value.reason


def test_a_good_token_names_its_device():
    assert door().authenticate(Call(SIGNER.token())) == Caller(
        "acme", "phone-7", "phone", frozenset(Scope)
    )


@pytest.mark.parametrize(("made", "reason"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_token_is_refused(made, reason):
    assert reason_of(door(), Call(made())) is reason


def test_all_refusals_look_alike():
    said = set()
    for _, made, _ in WRONG:
        with pytest.raises(Refused) as caught:
            door().authenticate(Call(made()))
        said.add((str(caught.value), caught.value.field, caught.value.__cause__))
    assert len(said) == 1


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_each_allowed_algorithm_opens_the_door(algorithm):
    signer = Signer("k", algorithm)
    assert door(signer).authenticate(Call(signer.token())).device == "phone-7"


def test_an_algorithm_can_be_taken_from_the_list():
    assert reason_of(door(algorithms=("EdDSA",)), Call(SIGNER.token())) is Refusal.ALGORITHM


@pytest.mark.parametrize(
    "claims",
    [
        lambda: {"exp": now_s(-5)},
        lambda: {"nbf": now_s(20)},
        lambda: {"aud": ["billing", AUDIENCE]},
        lambda: {"device_class": "Not A Class"},
        lambda: {"scope": "generate admin:all"},
    ],
    ids=["just expired", "valid soon", "for others too", "odd class", "another scope"],
)
def test_what_may_be_a_little_off_is_let_in(claims):
    assert door().authenticate(Call(SIGNER.token(**claims()))).device == "phone-7"


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("generate", {Scope.GENERATE}),
        ("report sync other", {Scope.REPORT, Scope.SYNC}),
        (["generate"], {Scope.GENERATE}),
        ("generatereport", set()),
        ("", set()),
        (7, set()),
    ],
)
def test_the_scopes_are_those_of_the_claim(scope, scopes):
    assert door().authenticate(Call(SIGNER.token(scope=scope))).scopes == scopes


def test_a_token_without_scopes_may_do_nothing():
    assert door().authenticate(Call(SIGNER.token(without=("scope",)))).scopes == set()


def test_a_class_that_is_none_is_unknown():
    assert door().authenticate(Call(SIGNER.token(device_class="a b"))).device_class == "unknown"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda token: Call(), Refusal.MISSING),
        (lambda token: Call(token, token), Refusal.MALFORMED),
        (lambda token: Call(""), Refusal.MALFORMED),
        (lambda token: Call(token, scheme="Basic"), Refusal.MALFORMED),
        (lambda token: Call(f"{token} x"), Refusal.MALFORMED),
    ],
    ids=["none", "two", "empty", "another scheme", "something behind"],
)
def test_the_header_has_to_be_one_bearer_token(call, reason):
    assert reason_of(door(), call(SIGNER.token())) is reason


def test_the_scheme_may_be_written_in_any_case():
    assert door().authenticate(Call(SIGNER.token(), scheme="bearer")).tenant == "acme"


@pytest.mark.parametrize("name", ["acme/phone-7", "t-1"])
def test_who_was_revoked_is_let_in_no_more(name):
    revoked = set()
    known = door(revoked=revoked)
    assert known.authenticate(Call(SIGNER.token()))
    revoked.add(name)
    assert reason_of(known, Call(SIGNER.token())) is Refusal.REVOKED
    assert door(revoked=revoked).authenticate(Call(SIGNER.token(sub="phone-8", jti="t-2")))


def test_a_token_that_was_good_before_still_expires(monkeypatch):
    expires_s = now_s(600)
    known, call = door(), Call(SIGNER.token(exp=expires_s))
    known.authenticate(call)
    monkeypatch.setattr(time, "time", lambda: expires_s + 31)
    assert reason_of(known, call) is Refusal.EXPIRED


def test_a_key_that_is_gone_takes_its_tokens_along():
    keys = {"k1": key_of(SIGNER.jwk, "k", "f")}
    config = AuthConfig(jwks_file="j", issuer=ISSUER, audience=AUDIENCE)
    known, call = TokenAuthenticator(config, lambda: keys), Call(SIGNER.token())
    known.authenticate(call)
    keys = {}
    assert reason_of(known, call) is Refusal.KEY


def test_a_set_of_one_key_without_a_name_fits_tokens_without_one(tmp_path):
    bare = {name: value for name, value in SIGNER.jwk.items() if name != "kid"}
    keys = read_jwks(write_jwks(tmp_path / "jwks", bare))
    config = AuthConfig(jwks_file="j", issuer=ISSUER, audience=AUDIENCE)
    known = TokenAuthenticator(config, lambda: keys)
    assert known.authenticate(Call(SIGNER.token(headers={"kid": ""})))


@given(st.text(st.characters(codec="ascii", exclude_characters=" "), max_size=200) | st.text())
def test_no_token_of_chance_opens_the_door_or_breaks_it(token):
    with pytest.raises(Refused):
        door().authenticate(Call(token))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "zip"]),
)
def test_no_header_of_chance_opens_the_door_or_breaks_it(value, name):
    _, claims, signature = STRANGER.token().split(".")
    token = f"{segment({'alg': 'ES256', 'kid': 'k1'} | {name: value})}.{claims}.{signature}"
    with pytest.raises(Refused):
        door().authenticate(Call(token))


# --- the set of keys ---


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0LXNlY3JldA", "kid": "a"}, "shared secret"),
        ({"kty": "oct", "k": "c2VjcmV0LXNlY3JldA", "kid": "a", "alg": "HS256"}, "shared secret"),
        (SIGNER.jwk | {"d": "hush"}, "private key"),
        (SIGNER.jwk | {"x": "AA"}, "no usable key"),
        (SIGNER.jwk | {"kid": 7}, "kid of its own"),
    ],
)
def test_a_key_that_should_not_be_there_refuses_the_set(tmp_path, key, why):
    with pytest.raises(ConfigError, match=why) as caught:
        read_jwks(write_jwks(tmp_path / "jwks", Signer("good"), key))
    assert caught.value.field == "auth.jwks_file"
    assert "hush" not in str(caught.value)


def test_a_short_key_refuses_the_set(tmp_path):
    from cryptography.hazmat.primitives.asymmetric import rsa

    short = Signer("s", "RS256", rsa.generate_private_key(65537, 1024))
    with pytest.raises(ConfigError, match="2048 bits"):
        read_jwks(write_jwks(tmp_path / "jwks", short))


@pytest.mark.parametrize("name", ["kty", "alg", "crv"])
def test_a_key_with_a_list_for_a_word_refuses_the_set(tmp_path, name):
    with pytest.raises(ConfigError):
        read_jwks(write_jwks(tmp_path / "jwks", SIGNER.jwk | {name: ["x"]}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 7}', '{"keys": []}', '{"keys": [1]}'])
def test_what_is_no_set_of_keys_is_an_error(tmp_path, text):
    (tmp_path / "jwks").write_text(text)
    with pytest.raises(ConfigError):
        read_jwks(tmp_path / "jwks")


def test_two_keys_of_one_name_refuse_the_set(tmp_path):
    with pytest.raises(ConfigError, match="kid of its own"):
        read_jwks(write_jwks(tmp_path / "jwks", SIGNER, STRANGER))


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"kty": "AKP", "alg": "ML-DSA-44"},
        {"crv": "secp256k1", "alg": "ES256K"},
        {"alg": "ECDH-ES"},
        {"alg": "HS256"},
        {"use": ["sig"]},
    ],
)
def test_keys_that_are_not_for_signatures_known_here_are_left_out(tmp_path, change):
    other = Signer("other").jwk | change
    assert list(read_jwks(write_jwks(tmp_path / "jwks", SIGNER, other))) == ["k1"]
    with pytest.raises(ConfigError, match="can be checked here"):
        read_jwks(write_jwks(tmp_path / "jwks", other))


# --- through the gateway ---


@asynccontextmanager
async def gateway_with(tmp_path, *signers, **settings):
    jwks = write_jwks(tmp_path / "jwks.json", *signers)
    auth = auth_settings(jwks) | settings
    gateway = Gateway(gateway_config(auth=auth), ScriptedBackend())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def device(gateway, token=None):
    tier = RemoteTier(RemoteConfig(gateway.address, token=token))
    try:
        yield tier
    finally:
        await tier.close()


def refusals(gateway, reason):
    return gateway.metrics.registry.get_sample_value(
        "isthmus_cloud_refused_calls_total", {"reason": reason.value}
    )


async def test_a_device_gets_in_and_nobody_else_does(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        async with device(gateway, SIGNER.token()) as tier:
            assert [event async for event in tier.generate(anew(REQUEST))]
        for token in (None, "hush", unsigned(), STRANGER.token(), SIGNER.token(aud="x")):
            async with device(gateway, token) as tier:
                for call in (
                    tier.info,
                    tier.load,
                    lambda tier=tier: anext(tier.generate(anew(REQUEST))),
                ):
                    with pytest.raises(Unauthenticated) as caught:
                        await call()
                    assert "valid credentials are needed" in caught.value.message
        assert len(gateway.backend.requests) == 1
        assert refusals(gateway, Refusal.MISSING) == 3
        assert refusals(gateway, Refusal.AUDIENCE) == 3


@pytest.mark.parametrize(
    "metadata",
    [
        lambda: (),
        lambda: (("authorization", f"Bearer {STRANGER.token()}"),),
        lambda: (("authorization", f"Bearer {SIGNER.token()}"),) * 2,
        lambda: (("authorization-bin", f"Bearer {SIGNER.token()}".encode()),),
        lambda: (("proxy-authorization", f"Bearer {SIGNER.token()}"),),
    ],
    ids=["nothing", "a stranger's token", "two tokens", "bytes", "another header"],
)
@pytest.mark.parametrize(
    "method",
    ["/isthmus.v1.GatewayService/Generate", "/grpc.health.v1.Health/Watch", "/no.such/Method"],
)
async def test_a_stranger_is_refused_before_his_message_is_read(tmp_path, metadata, method):
    """A call that never sends one gets its answer."""
    async with (
        gateway_with(tmp_path, SIGNER) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        call = channel.stream_stream(method)(metadata=metadata(), timeout=30)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


class Broken:
    """An authenticator with a fault that quotes the token."""

    def screen(self, metadata):
        raise KeyError("".join(["hu", "sh"]))

    def authenticate(self, context):
        raise KeyError("".join(["hu", "sh"]))


@pytest.mark.parametrize("look", ["screen", "authenticate"])
async def test_a_fault_opens_no_door_and_tells_nothing(tmp_path, monkeypatch, caplog, look):
    authenticator = Anyone()
    monkeypatch.setattr(authenticator, look, getattr(Broken(), look), raising=False)
    monkeypatch.setattr(identity, "create", lambda *args, **more: authenticator)
    async with gateway_with(tmp_path, SIGNER) as gateway, device(gateway, "hush") as tier:
        for call in (tier.info, lambda: anext(tier.generate(anew(REQUEST)))):
            with pytest.raises(Unauthenticated) as caught:
                await call()
            assert "hush" not in caught.value.message
        assert refusals(gateway, Refusal.FAULT) == 2
    assert "KeyError" in caplog.text
    assert "hush" not in caplog.text


async def test_a_call_is_refused_once(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        async with device(gateway) as tier:
            with pytest.raises(Unauthenticated):
                await tier.info()
        assert refusals(gateway, Refusal.MISSING) == 1


async def test_a_scope_that_is_lacking_is_a_matter_of_permission(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        async with device(gateway, SIGNER.token(scope="report")) as tier:
            assert await tier.report([], []) == 0
            with pytest.raises(PermissionDenied):
                await tier.info()
            with pytest.raises(PermissionDenied):
                await anext(tier.generate(anew(REQUEST)))
        async with device(gateway, SIGNER.token(scope="generate")) as tier:
            await tier.info()
            with pytest.raises(PermissionDenied, match="report"):
                await tier.report([], [])
        assert refusals(gateway, Refusal.SCOPE) == 3


async def test_keys_are_rotated_while_the_gateway_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 0.0)
    new = Signer("k2", "EdDSA")
    async with gateway_with(tmp_path, SIGNER) as gateway:

        async def lets_in(signer):
            async with device(gateway, signer.token()) as tier:
                try:
                    await tier.info()
                except Unauthenticated:
                    return False
                return True

        assert (await lets_in(SIGNER), await lets_in(new)) == (True, False)
        write_jwks(tmp_path / "jwks.json", SIGNER, new)
        assert (await lets_in(SIGNER), await lets_in(new)) == (True, True)
        (tmp_path / "jwks.json").write_text("half of a")
        assert (await lets_in(SIGNER), await lets_in(new)) == (True, True)
        write_jwks(tmp_path / "jwks.json", new)
        assert (await lets_in(SIGNER), await lets_in(new)) == (False, True)
        told = gateway.metrics.registry.get_sample_value
        name = "isthmus_cloud_files_read_again_total"
        assert told(name, {"setting": "auth.jwks_file", "result": "good"}) == 2
        assert told(name, {"setting": "auth.jwks_file", "result": "failed"}) == 1


async def test_a_device_is_revoked_while_the_gateway_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 0.0)
    revoked = tmp_path / "revoked"
    revoked.write_text("# nobody yet\n")
    async with (
        gateway_with(tmp_path, SIGNER, revoked_file=revoked) as gateway,
        device(gateway, SIGNER.token()) as tier,
        device(gateway, SIGNER.token(sub="phone-8", jti="t-2")) as other,
    ):
        await tier.info()
        revoked.write_text("acme/phone-7  # lost on a train\n")
        with pytest.raises(Unauthenticated):
            await tier.load()
        await other.load()


async def test_a_static_token_is_replaced_while_the_gateway_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 0.0)
    path = tmp_path / "token"
    path.write_text("old")
    gateway = Gateway(gateway_config(token_file=path), ScriptedBackend())
    await gateway.start()
    try:
        async with device(gateway, "old") as old, device(gateway, "new") as new:
            await old.load()
            with pytest.raises(Unauthenticated):
                await new.load()
            path.write_text("new")
            await new.load()
            with pytest.raises(Unauthenticated):
                await old.load()
        assert refusals(gateway, Refusal.TOKEN) == 2
    finally:
        await gateway.stop()


async def test_keys_that_cannot_be_read_stop_the_gateway_from_starting(tmp_path):
    with pytest.raises(ConfigError) as caught:
        async with gateway_with(tmp_path, {"kty": "oct", "k": "c2VjcmV0", "kid": "a"}):
            pass
    assert caught.value.field == "auth.jwks_file"


async def test_each_tenants_prefixes_have_a_salt_of_their_own(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        for tenant in ("acme", "acme", "rival"):
            async with device(gateway, SIGNER.token(tenant=tenant)) as tier:
                assert [event async for event in tier.generate(anew(REQUEST))]
        first, second, other = (request.cache_salt for request in gateway.backend.requests)
    assert first == second != other
    assert "acme" not in first


def test_the_salt_depends_on_the_key_alone_and_gateways_can_share_it(tmp_path):
    path = tmp_path / "key"
    path.write_text(hashlib.sha256(b"any").hexdigest())
    shared = identity.CacheSalts.of(path)
    assert shared("acme") == identity.CacheSalts.of(path)("acme")
    assert shared("acme") != identity.CacheSalts.of(None)("acme")
    assert len(shared("acme")) == 32

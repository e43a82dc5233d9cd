"""Device tokens: which of them open the door, and what a refused caller learns."""

from __future__ import annotations

import base64
import hmac
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_tokens import AUDIENCE, ISSUER, Call, Signer, segment, unsigned, write_jwks
from isthmus.cloud.identity import AuthConfig, Caller, Refusal, Refused, Scope
from isthmus.cloud.identity.jwks import key_of, read_jwks
from isthmus.cloud.identity.tokens import TokenAuthenticator

SIGNER = Signer()
STRANGER = Signer()  # the same kid, another key


def door(*signers, revoked=frozenset(), **settings):
    """An authenticator that knows these signers."""
    keys = {signer.kid: key_of(signer.jwk, "k", "f") for signer in signers or (SIGNER,)}
    config = AuthConfig(jwks_file="j", issuer=ISSUER, audience=AUDIENCE, **settings)
    return TokenAuthenticator(config, lambda: keys, lambda: revoked)


def signed_with_the_public_key(algorithm="HS256"):
    """The confusion of RFC 8725, section 2.1: the public key taken for a shared secret."""
    head = unsigned(SIGNER, algorithm).rstrip(".")
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
    ("unsigned", lambda: unsigned(SIGNER), Refusal.ALGORITHM),
    ("unsigned, oddly spelt", lambda: unsigned(SIGNER, "nOnE"), Refusal.ALGORITHM),
    ("shared secret", signed_with_the_public_key, Refusal.ALGORITHM),
    ("algorithm of another key", lambda: Signer("k1", "EdDSA").token(), Refusal.ALGORITHM),
    ("algorithm that is not allowed", lambda: Signer("k1", "ES384").token(), Refusal.ALGORITHM),
    ("algorithm that is no text", lambda: unsigned(SIGNER, ["ES256"]), Refusal.ALGORITHM),
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

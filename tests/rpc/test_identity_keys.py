"""The set of keys that device tokens are checked with: what may be in it."""

from __future__ import annotations

import pytest

from device_tokens import Signer, write_jwks
from isthmus.cloud.identity.jwks import read_jwks
from isthmus.core.errors import ConfigError

SIGNER = Signer()
STRANGER = Signer()  # the same kid, another key


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

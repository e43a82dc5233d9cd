"""Device tokens for tests, made by PyJWT from keys of their own."""

from __future__ import annotations

import base64
import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://devices.example"
AUDIENCE = "isthmus"

_MAKE = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


class Signer:
    """A key pair, its public part as a JWK, and tokens signed by it."""

    def __init__(self, kid="k1", algorithm="ES256", key=None):
        self.kid, self.algorithm = kid, algorithm
        self.key = key or _MAKE[algorithm]()
        public = jwt.get_algorithm_by_name(algorithm).to_jwk(self.key.public_key(), as_dict=True)
        self.jwk = {**public, "kid": kid, "alg": algorithm, "use": "sig"}

    def token(self, *, headers=None, without=(), **claims):
        now_s = int(time.time())
        told = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "phone-7",
            "tenant": "acme",
            "device_class": "phone",
            "scope": "generate report sync",
            "iat": now_s,
            "exp": now_s + 600,
            "jti": "t-1",
        } | claims
        told = {name: value for name, value in told.items() if name not in without}
        return jwt.encode(
            told, self.key, self.algorithm, headers={"kid": self.kid} | (headers or {})
        )


def segment(value):
    """A token's header or claims as they are written in it."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(signer, algorithm="none", **header):
    """A token with the claims of the signer's and an empty signature."""
    _, claims, _ = signer.token().split(".")
    return f"{segment({'alg': algorithm, 'typ': 'JWT', 'kid': 'k1'} | header)}.{claims}."


def write_jwks(path, *keys):
    """A JWK set of these signers, or of raw JWKs."""
    path.write_text(json.dumps({"keys": [getattr(key, "jwk", key) for key in keys]}))
    return path


def auth_settings(path):
    """The section `[auth]` for tokens of the set at `path`."""
    return {"jwks_file": path, "issuer": ISSUER, "audience": AUDIENCE}


class Call:
    """As much of a `grpc.aio.ServicerContext` as authentication reads."""

    def __init__(self, *tokens, scheme="Bearer", pem=None):
        self._metadata = tuple(("authorization", f"{scheme} {token}") for token in tokens)
        self._pem = pem

    def invocation_metadata(self):
        return (("user-agent", "test"), *self._metadata)

    def auth_context(self):
        return {} if self._pem is None else {"x509_pem_cert": [self._pem]}

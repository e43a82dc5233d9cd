"""The keys that sign device tokens: a JWK set in a file (RFC 7517)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import jwt

from isthmus.cloud.identity.config import Algorithm
from isthmus.core.errors import ConfigError
from isthmus.core.watched import read_bytes

_MAX_KEYS: Final = 64
_PUBLIC_KINDS: Final = frozenset({"EC", "OKP", "RSA"})
_CURVES: Final = frozenset({"P-256", "P-384", "P-521", "Ed25519"})
_ALGORITHMS: Final = frozenset(get_args(Algorithm))

Keys = Mapping[str, jwt.PyJWK]
"""The keys by their `kid`. A key without one, alone in its set, is under the empty name."""


def read_jwks(path: Path, field: str = "auth.jwks_file") -> Keys:
    """The keys of the set at `path`. Raises `ConfigError`, which shows nothing of a key.

    A set that holds a secret is refused whole: whoever can read it could sign.
    """
    try:
        members = json.loads(read_bytes(path, field))["keys"]
        signing = [key for key in map(dict, members) if _is_ours(key)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{field} is no JSON object with a list of keys", field=field) from None
    if not 0 < len(signing) <= _MAX_KEYS:
        raise ConfigError(
            f"{field} must hold 1 to {_MAX_KEYS} keys for signatures that can be checked here",
            field=field,
        )
    keys: dict[str, jwt.PyJWK] = {}
    for at, key in enumerate(signing):
        name = key.get("kid", "")
        if not isinstance(name, str) or name in keys or (not name and len(signing) > 1):
            raise ConfigError(f"{field}: keys[{at}] needs a kid of its own", field=field)
        keys[name] = key_of(key, f"keys[{at}]", field)
    return keys


def _is_ours(key: Mapping[str, Any]) -> bool:
    """Whether a key is for signatures that are known here; others are left out (section 5).

    Shared secrets are ours too: to be refused.
    """
    return (
        key.get("use", "sig") == "sig"
        and key.get("kty") in {*_PUBLIC_KINDS, "oct"}
        and ("alg" not in key or key["alg"] in _ALGORITHMS or key["kty"] == "oct")
        and ("crv" not in key or key["crv"] in _CURVES)
    )


def key_of(key: dict[str, Any], name: str, field: str) -> jwt.PyJWK:
    """The public key that a JWK holds. Raises `ConfigError`, which calls it `name`."""
    if key.get("kty") == "oct":
        raise ConfigError(
            f"{field}: {name} is a shared secret, with which every reader could sign; "
            "use key pairs",
            field=field,
        )
    if "d" in key:
        raise ConfigError(
            f"{field}: {name} is a private key; the gateway needs the public part alone",
            field=field,
        )
    try:
        made = jwt.PyJWK(key)
    except jwt.PyJWTError:
        # Its message quotes the key.
        raise ConfigError(f"{field}: {name} is no usable key", field=field) from None
    if made.Algorithm.check_key_length(made.key) is not None:
        raise ConfigError(f"{field}: {name} is too short (RSA needs 2048 bits)", field=field)
    return made

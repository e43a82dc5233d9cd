"""Whether anything may leave for the cloud at all: given explicitly, revoked at any time.

`isthmus privacy consent` keeps it in a file that a running agent looks at with each request. The
setting `privacy.consent` can give it too, and can forbid it; what was revoked in the file stays
revoked. A gateway that `isthmus up` starts itself, on this machine and with the engine embedded,
is not the cloud: nothing leaves the device, and no consent is needed.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.core.paths import home


def consent_path() -> Path:
    """Where the consent is kept."""
    return home() / "consent.json"


def keep_consent(granted: bool, path: Path | None = None) -> None:
    """Give the consent, or revoke it. Raises `ConfigError` when it cannot be kept."""
    path = path or consent_path()
    kept = json.dumps({"cloud": granted, "at_unix_s": round(time.time())})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: half a file would count as revoked.
        new = path.with_suffix(".new")
        new.write_text(kept + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cannot keep the consent in {path} ({error.strerror}): make its folder writable, or "
            "set ISTHMUS_HOME to another",
            field="ISTHMUS_HOME",
        ) from None


class Consent:
    """The consent to the use of the cloud."""

    def __init__(
        self, configured: bool | None = None, path: Path | None = None, *, own_gateway: bool = False
    ) -> None:
        self._configured = configured
        self._path = path or consent_path()
        self._own_gateway = own_gateway
        self._read: tuple[int, bool] | None = None

    @property
    def granted(self) -> bool:
        """Whether the cloud may be used now."""
        if self._configured is False:
            return False
        if self._own_gateway:
            return True
        kept = self._kept()
        return self._configured is True if kept is None else kept

    def _kept(self) -> bool | None:
        """What the file says; None where there is none. One that cannot be read says no."""
        try:
            changed_ns = os.stat(self._path).st_mtime_ns
            if self._read is None or self._read[0] != changed_ns:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                self._read = changed_ns, kept.get("cloud") is True
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError):
            return False
        return self._read[1]

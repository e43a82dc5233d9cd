"""The last look: whether a value of the vault is in the very bytes that are about to leave.

It knows nothing of fields or messages, so that nothing the redaction may have missed is missed here
too: the bytes as text, with the escapes undone, and whatever base64 and hex may stand for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from isthmus.core.errors import PolicyRefused
from isthmus.privacy.known import Haystack, Key
from isthmus.privacy.readings import decoded, readings
from isthmus.privacy.redact import LOOKALIKE
from isthmus.privacy.vault import Vault

REASON = "privacy_blocked"


class EgressBlocked(PolicyRefused):
    """A value was about to leave. `labels` counts what was found; the value is never shown."""

    kind = "privacy_blocked"

    def __init__(self, labels: Mapping[str, int]) -> None:
        found = ", ".join(f"{label} {count}" for label, count in sorted(labels.items()))
        super().__init__(
            f"the request was stopped on its way out: values in it were not redacted ({found})",
            reason=REASON,
        )
        self.labels = labels


def check(data: bytes, vault: Vault) -> None:
    """Raise `EgressBlocked` when a value of `vault` is in `data` in any form."""
    found = Counter(leaks(data, vault))
    if found:
        raise EgressBlocked(dict(found))


def leaks(data: bytes, vault: Vault) -> Iterator[str]:
    """The label of each value that is in `data`."""
    keys = vault.keys
    if not keys:
        return
    # Framing bytes are no text: each becomes a character that joins nothing.
    text = data.decode("utf-8", "replace")
    seen: set[Key] = set()
    long = {
        key
        for key in keys
        if len(key.text.encode("utf-8", "surrogatepass")) >= _LEAST_ENCODED_BYTES
    }
    for view in (text, *readings(text)):
        seen.update(key for _, _, key in Haystack(view).find(keys.keys() - seen))
        for hidden in _batches(decoded(view)):
            seen.update(key for _, _, key in Haystack(hidden).find(long - seen))
    for key in seen:
        label, _ = vault.entry(keys[key])
        if label != LOOKALIKE:
            yield label


_LEAST_ENCODED_BYTES = 6
"""What is shorter turns up by chance where other text is read as base64."""
_BATCH_CHARS = 65_536


def _batches(texts: Iterable[str]) -> Iterator[str]:
    """Many short texts as a few longer ones."""
    batch, size = list[str](), 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size > _BATCH_CHARS:
            yield "\n".join(batch)
            batch, size = [], 0
    yield "\n".join(batch)

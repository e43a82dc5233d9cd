"""Names of OpenTelemetry's GenAI semantic conventions as Prometheus writes them.

After the conventions of September 2026 (status: development), `docs/gen-ai/client-inference.md`,
`gen-ai-token-metrics.md` and `gen-ai-metrics.md` of open-telemetry/semantic-conventions-genai.
Histograms have the edges that those advise, and those that a promise or a phone needs beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from isthmus.core.decision import Target

OPERATION: Final = "gen_ai_operation_name"
PROVIDER: Final = "gen_ai_provider_name"
MODEL: Final = "gen_ai_request_model"
MODALITY: Final = "gen_ai_token_modality"
ERROR: Final = "error_type"
"""Empty, which to Prometheus is the same as missing, where there was no error."""

CHAT: Final = "chat"
"""The only operation there is."""
PROVIDERS: Final = {target: f"isthmus.{target}" for target in Target}
"""Who computes, to somebody who compares it with others: the device, or the gateway."""

CLIENT_EDGES_S: Final = tuple(0.01 * 2**power for power in range(14))
"""0.01 to 81.92 s: all times of a client, and a server's whole requests."""
SERVER_TTFT_EDGES_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
SERVER_TPOT_EDGES_S: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15),
    *(0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)


def edges(advised: Iterable[float], *more: Iterable[float]) -> tuple[float, ...]:
    """All of them, in order. A promise must be an edge, or who keeps it can only be guessed."""
    return tuple(sorted({*advised, *(edge for some in more for edge in some)}))

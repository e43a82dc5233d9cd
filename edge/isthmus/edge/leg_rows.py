"""The legs of each answer as rows of the ledger: who worked on it, what of it was seen, its price.

    SELECT ended, count(*), sum(dropped_tokens), sum(price_micro_usd) FROM legs GROUP BY ended

A race's loser is a row that ended `lost`; a hand-over is one that ended `doubted`.
"""

from __future__ import annotations

SCHEMA = """
CREATE TABLE legs (
    request_id        TEXT NOT NULL,
    number            INTEGER NOT NULL,
    target            TEXT NOT NULL,
    ended             TEXT NOT NULL,
    model             TEXT NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    dropped_tokens    INTEGER NOT NULL,
    accepted_tokens   INTEGER NOT NULL,
    sent_bytes        INTEGER NOT NULL,
    price_micro_usd   INTEGER NOT NULL,
    error_kind        TEXT NOT NULL,
    PRIMARY KEY (request_id, number)
) STRICT;
"""
INSERT = f"INSERT OR REPLACE INTO legs VALUES ({', '.join('?' * 12)})"

LegRow = tuple[str | int, ...]
"""The columns, in order."""

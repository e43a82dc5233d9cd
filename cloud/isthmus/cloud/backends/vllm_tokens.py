"""vLLM's tokens as bytes and with their log-probabilities."""

from __future__ import annotations

from typing import Any, Final

from isthmus.core.events import TokenLogprob, TopLogprob


class Tokens:
    """Of one model, by the tokenizer that vLLM has for it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def raw(self, token_id: int) -> bytes | None:
        """The exact bytes of a token of a byte-level BPE; None for one of another kind."""
        symbols = self._tokenizer.convert_ids_to_tokens(token_id) or ""
        try:
            return bytes(_BYTE_OF_SYMBOL[symbol] for symbol in symbols)
        except KeyError:
            return None

    def logprobs(self, piece: Any, most_top: int) -> tuple[TokenLogprob, ...]:
        """Of each token of `piece` (a `CompletionOutput`), with so many of the likeliest."""
        out = []
        for token_id, candidates in zip(piece.token_ids, piece.logprobs or (), strict=False):
            ranked = sorted(candidates.items(), key=lambda item: item[1].rank or 0)
            top = tuple(
                TopLogprob(one.decoded_token or "", one.logprob, self._bytes(id_, one))
                for id_, one in ranked[:most_top]
            )
            chosen = candidates[token_id]
            out.append(
                TokenLogprob(
                    chosen.decoded_token or "",
                    chosen.logprob,
                    self._bytes(token_id, chosen),
                    top,
                )
            )
        return tuple(out)

    def _bytes(self, token_id: int, candidate: Any) -> bytes:
        """The exact bytes of a token of a byte-level BPE; of others their text."""
        raw = self.raw(token_id)
        return (candidate.decoded_token or "").encode() if raw is None else raw


def _byte_symbols() -> dict[str, int]:
    """GPT-2's table: each byte has a printable symbol; those without take 256 and up, in order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return symbols | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_SYMBOL: Final = _byte_symbols()

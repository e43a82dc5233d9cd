"""Text to tokens and back.

tokenizer   what the engine asks
byte_level  by words and bytes: `words` splits; `spaces` by characters, without words
bpe         the merging that both share
"""

"""Figures of the engine, beside a peer's on the same file: `isthmus bench`.

`base` says what is measured; `ours` and `peer` (llama.cpp) measure it, in processes of
their own; `compare` takes them in turns and sums up; `accuracy` compares what they compute.
"""

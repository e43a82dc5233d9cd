"""The features of a vLLM server as typed settings: what `[serving]` is, and what it becomes."""

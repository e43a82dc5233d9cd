"""The engine on the device: a model's file in, tokens out.

sources     where models come from; `formats` how they are stored; `prepared` packed, on disk
model       what the rest knows of one, with `architectures`; `graph` its operators
tokens      text to tokens; `template` a conversation to text
constraint  answers that must have a form: `schema`, and `calls` of tools
engine      what a caller asks; `worker` its thread, `outlet` the way back, `answer` one answer
scheduler   what goes into a step: `kv` and `radix` (the cache), `pace`, `speculation`, `sampler`
opening     which backends run it: `phases` chooses by what `timing` measured, `split` joins two
fallback    what goes on when one fails: `time_limit` ends what hangs, `resident` unloads
quantize    float models into 4 bits; `export` for others to load; `bench`, `perplexity` measure
"""

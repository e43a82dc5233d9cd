"""One or many OpenAI-compatible upstreams behind one backend.

`discovery` finds them, `client` speaks with one of them, `upstream` knows how it fares (`outliers`
ejects), `choice` picks one for a request, `progress` is what an answer has told over all of them,
`pool` is the backend.
"""

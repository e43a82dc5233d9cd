"""Traces: the way of one request through agent, gateway and upstream, without its text.

`base` is all that the rest knows; `config` the settings, `otel` OpenTelemetry.
"""

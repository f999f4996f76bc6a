"""Traces: a span a generation, an attempt and a phase, made after the end and sent over OTLP/HTTP.

Imported only where `observability.tracing` is configured. While a generation runs there is no work;
at its end the loop copies some fields into a queue (`taken`), and one thread does all the rest: it
makes spans of them (`shapes`), writes them as OpenTelemetry's protobuf messages (`encoding`) and
sends those (`collector`). What those messages are is OpenTelemetry's stable contract; the SDK's own
spans, which are to be begun and ended by whoever does the work, would cost the loop ten times that.
"""

"""Any engine under the same rules: a client of servers that speak the OpenAI-compatible HTTP API.

    spec.ExternalRequest -> discovery (who serves, by which door) -> ExternalEngine -> OpenAiSut

Everything that a server sends is a stranger's: sizes are capped, redirects refused, text cleaned.
"""

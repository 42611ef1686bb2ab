"""The OpenAI-compatible server: `make_app(engine, settings=ServerSettings(), name="model")` is an ASGI application.

A request travels so:

    connection.py   the sender's time for headers, sizes of them                 (uvicorn's protocol, with limits)
    door.py         host, key, draining, one gate for all, body bytes as they come, JSON that has one meaning
    schema/         what a body may say, a file an endpoint                       -> what OpenAPI tells
    routes/         a body to `GenerateRequest`s, updates to OpenAI's answers
    service.py      requests to the engine, updates back; time-outs, metrics, spans
    sse.py          updates to a stream of events
"""

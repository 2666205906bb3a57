"""`python -m stream_server.cli`: the same as `stream-server`."""

from stream_server.cli import app

app(prog_name="stream-server")

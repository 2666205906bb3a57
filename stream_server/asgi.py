"""The application for any ASGI server: `uvicorn stream_server.asgi:app`, or hypercorn, gunicorn,
granian. Its settings come from the environment.

Prefer `stream-server serve`: its streams cost least, and load balancers learn of the end before the
port is closed. On other servers, streams are ordinary responses.
"""

from stream_server.app import create_app
from stream_server.settings import Settings

__all__ = ["app"]

app = create_app(Settings.load())

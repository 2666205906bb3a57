"""The application for any ASGI server: `uvicorn stream_server.asgi:app`, or hypercorn, gunicorn,
granian. Its settings are the environment's.

`stream-server serve` is the better way: there, a stream costs least, and balancers can be told
before the port is closed. Elsewhere streams are ordinary responses.
"""

from stream_server.app import create_app
from stream_server.settings import Settings

__all__ = ["app"]

app = create_app(Settings.load())

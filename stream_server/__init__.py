"""Live stock for shops on Postgres: a row changes, every browser knows."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("stream-server")
except PackageNotFoundError:  # a copy of the files that was never installed
    __version__ = "unknown"

"""Serves the browser client, and makes it small."""

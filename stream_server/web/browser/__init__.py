"""The files of the browser client: served, bundled and minified."""

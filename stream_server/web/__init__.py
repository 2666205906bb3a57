"""The HTTP side of the service: routes, pages, and the modules that they share."""

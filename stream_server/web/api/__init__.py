"""The JSON API: one module a group of routes, named as the routes are."""

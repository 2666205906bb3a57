"""The JSON API: a module for each group of routes, named like the routes."""

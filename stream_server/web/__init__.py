"""HTTP: one module a group of routes."""

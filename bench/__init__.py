"""Measures the service on this machine: `scripts/bench` (docs/benchmarks.md)."""

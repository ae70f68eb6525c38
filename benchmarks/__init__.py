"""Benchmarks: never collected by pytest; each ends with one line of JSON. See docs/BENCHMARKS.md."""

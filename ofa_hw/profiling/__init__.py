"""Profiling: what a backend is, and how a latency is measured."""

"""Lowering: a `Graph` to what a runtime runs, and the check that it computes the same."""

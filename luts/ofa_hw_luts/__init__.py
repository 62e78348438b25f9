"""Latency tables measured by this project, and nothing else."""

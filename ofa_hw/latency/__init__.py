"""Latency tables: filled, saved, resumed, validated, calibrated."""

"""Latency tables: filled, saved, resumed, validated, calibrated."""

from ofa_hw.latency.fill import FillPlan, fill_table, plan_fill
from ofa_hw.latency.load import bundled_tables, load_table
from ofa_hw.latency.published import import_published
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.table import Header, LatencyTable

__all__ = [
    "FillPlan",
    "Header",
    "LatencyTable",
    "Statistics",
    "bundled_tables",
    "fill_table",
    "import_published",
    "load_table",
    "plan_fill",
]

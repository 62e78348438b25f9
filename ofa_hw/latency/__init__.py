"""Latency tables: filled, saved, resumed, validated, calibrated."""

from ofa_hw.latency.bench import BenchResult, bench_file
from ofa_hw.latency.calibrate import calibrate_table
from ofa_hw.latency.calibration import Calibration
from ofa_hw.latency.compare import TableComparison, compare_tables
from ofa_hw.latency.fill import FillPlan, fill_table, plan_fill
from ofa_hw.latency.load import bundled_tables, load_table
from ofa_hw.latency.merge import MergedTable, merge_tables
from ofa_hw.latency.published import import_published
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.save import save_table
from ofa_hw.latency.table import Header, LatencyTable
from ofa_hw.latency.validate import ValidationReport, validate_table, validation_report
from ofa_hw.latency.validation import ErrorFigures, ValidatedNetwork

__all__ = [
    "BenchResult",
    "Calibration",
    "ErrorFigures",
    "FillPlan",
    "Header",
    "LatencyTable",
    "MergedTable",
    "Statistics",
    "TableComparison",
    "ValidatedNetwork",
    "ValidationReport",
    "bench_file",
    "bundled_tables",
    "calibrate_table",
    "compare_tables",
    "fill_table",
    "import_published",
    "load_table",
    "merge_tables",
    "plan_fill",
    "save_table",
    "validate_table",
    "validation_report",
]

"""Export: a network to a file that was checked."""

from ofa_hw.export.check import Checked
from ofa_hw.export.files import beside, check_output, write_text
from ofa_hw.export.network import ExportedFile, export_graph, export_module
from ofa_hw.export.normalise import Normalisation
from ofa_hw.export.options import TOLERANCES, ExportOptions
from ofa_hw.export.provenance import Provenance, read_provenance

__all__ = [
    "TOLERANCES",
    "Checked",
    "ExportOptions",
    "ExportedFile",
    "Normalisation",
    "Provenance",
    "beside",
    "check_output",
    "export_graph",
    "export_module",
    "read_provenance",
    "write_text",
]

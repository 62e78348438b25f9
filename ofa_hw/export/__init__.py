"""Export: a network to a file that was checked."""

from ofa_hw.export.files import (
    ExportedFile,
    beside,
    check_output,
    export_graph,
    export_module,
    write_text,
)

__all__ = [
    "ExportedFile",
    "beside",
    "check_output",
    "export_graph",
    "export_module",
    "write_text",
]

"""`ofa-hw lut`: the commands about latency tables, each module its own."""

from ofa_hw.cli.lut import diff, files, quality, show
from ofa_hw.cli.lut.group import lut

__all__ = ["diff", "files", "lut", "quality", "show"]

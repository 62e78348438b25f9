"""The command line: parses, calls the public API, prints."""

from ofa_hw.cli.app import main

__all__ = ["main"]

"""Writes a file in one piece: under another name first, which it loses only when it is right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ofa_hw.errors import ExportError, OutputExistsError
from ofa_hw.lowering.files import format_of


def check_output(path: Path, *, force: bool) -> None:
    """Says before any work is done whether a file can be written.

    Raises:
        ExportError: If the ending names no format.
        OutputExistsError: If the file exists and `force` is false.
    """
    format_of(path)
    if path.exists() and not force:
        raise OutputExistsError(path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Gives a path in the same folder that takes the name `path` if the block ends well.

    Raises:
        ExportError: If the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece.

    Raises:
        ExportError: If the folder cannot be written.
    """
    with beside(path) as draft:
        draft.write_text(text)

"""What the tests' device is made of is made once, whole, and checked each time."""

import subprocess
import sys
from pathlib import Path

import pytest
from loopback.packages import DeviceSetupError, cached

MAKE = """
import sys, time
from pathlib import Path
from loopback.packages import cached
def make(scratch):
    (scratch / "file").write_text("content")
    time.sleep(0.3)
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
print((cached(Path(sys.argv[1]), make) / "file").read_text(), end="")
"""


def test_processes_that_want_the_same_thing_make_it_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path / "deep/thing"), str(tmp_path / "log")]
    here = Path(__file__).parent
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=here) for _ in range(3)]
    assert [worker.communicate(timeout=30)[0] for worker in workers] == [b"content"] * 3
    assert (tmp_path / "log").read_text() == "made\n"


def test_what_was_not_made_to_its_end_is_made_again(tmp_path: Path) -> None:
    def fail(scratch: Path) -> None:
        (scratch / "file").write_text("half")
        raise DeviceSetupError("no network")

    with pytest.raises(DeviceSetupError, match="no network"):
        cached(tmp_path / "thing", fail)
    assert not (tmp_path / "thing").exists()
    cached(tmp_path / "thing", lambda scratch: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing", "thing.lock"]


def test_a_file_that_was_damaged_is_named_and_made_again(tmp_path: Path) -> None:
    def make(scratch: Path) -> None:
        (scratch / "sub").mkdir()
        (scratch / "sub/file").write_text("content")

    (cached(tmp_path / "thing", make) / "sub/file").write_text("damaged")
    with pytest.raises(DeviceSetupError, match="sub/file was damaged"):
        cached(tmp_path / "thing", make)
    assert (cached(tmp_path / "thing", make) / "sub/file").read_text() == "content"

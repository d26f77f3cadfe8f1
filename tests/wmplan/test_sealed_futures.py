"""A process that called `forbid` cannot read the sealed files by any road, and can do everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore
from wmplan.store_writer import StoreWriter
from wmplan.testing.logs import driving_log
from wmplan.windows import WindowConfig, cut

PRELUDE = """
import ctypes, os, subprocess, sys
from pathlib import Path
store, run = Path(sys.argv[1]), Path(sys.argv[2])
secret = next((store / "sealed").glob("*.parquet"))
from wmplan.sealed import SealedFutures, forbid
guards = forbid(store)
def refused(act):
    try:
        act()
    except PermissionError as error:
        return error
    raise SystemExit(f"not refused: {act}")
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    out = tmp_path / "runs" / "store"
    out.parent.mkdir()
    with StoreWriter(out, 150.0, 0.2, {}) as writer:
        log = driving_log()
        for scene, future in cut(log, WindowConfig()):
            writer.add(log, scene, future)
        writer.finish([], [])
    (tmp_path / "runs" / "study").mkdir()
    return out


def attempt(store: Path, code: str) -> str:
    """Run the code in a fresh process that is forbidden the sealed files; its output."""
    arguments = [sys.executable, "-c", PRELUDE + code, str(store), str(store.parent / "study")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs_landlock(store: Path) -> None:
    if "landlock=True" not in attempt(store, "print(guards)"):
        pytest.skip("this kernel has no Landlock")


def test_python_cannot_open_it_and_the_file_is_named(store: Path) -> None:
    attempt(
        store,
        """
assert guards.audit_hook
for act in (
    lambda: open(secret, "rb"),
    lambda: os.open(secret, os.O_RDONLY),
    lambda: secret.read_bytes(),
    lambda: open(os.fsencode(os.path.relpath(secret)), "rb"),
    lambda: open(store / "scenes" / ".." / "sealed" / secret.name),
    lambda: os.rename(secret, run / "stolen"),
    lambda: os.link(secret, run / "stolen"),
):
    assert str(secret) in str(refused(act)), act
assert "sealed" in str(refused(lambda: SealedFutures.open(store)))
""",
    )


def test_code_outside_python_cannot_open_it(store: Path) -> None:
    needs_landlock(store)
    attempt(
        store,
        """
import pyarrow as pa, pyarrow.parquet as pq
for act in (
    lambda: pq.read_table(str(secret)),
    lambda: pq.ParquetFile(str(secret), memory_map=True),
    lambda: pa.memory_map(str(secret)),
    lambda: SealedFutures.open(store),
):
    refused(act)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.open(str(secret).encode(), os.O_RDONLY) == -1 and ctypes.get_errno() == 13
assert libc.rename(str(secret).encode(), str(run / "stolen").encode()) == -1
assert libc.link(str(secret).encode(), str(run / "stolen").encode()) == -1
assert libc.symlink(str(store / "sealed").encode(), str(run / "door").encode()) == 0
assert libc.open(str(run / "door" / secret.name).encode(), os.O_RDONLY) == -1
""",
    )


def test_a_child_process_cannot_open_it(store: Path) -> None:
    needs_landlock(store)
    attempt(
        store,
        """
done = subprocess.run(["cat", str(secret)], capture_output=True)
assert done.returncode != 0 and not done.stdout, done
code = "import sys; open(sys.argv[1], 'rb')"
done = subprocess.run([sys.executable, "-c", code, str(secret)], capture_output=True, text=True)
assert "PermissionError" in done.stderr, done
pid = os.fork()
if pid == 0:
    os._exit(0 if ctypes.CDLL(None).open(str(secret).encode(), os.O_RDONLY) == -1 else 1)
assert os.waitpid(pid, 0)[1] == 0
""",
    )


def test_everything_else_goes_on(store: Path) -> None:
    """Scenes are read; results are written, read, replaced and moved between folders; libraries load."""
    attempt(
        store,
        """
import sqlite3, tempfile
from wmplan.store import SceneStore
opened = SceneStore.open(store)
assert [scene.scene_id for scene in opened.scenes()] == list(opened.scene_ids)
opened.verify()
for folder in (run, run / "new" / "deep", Path(tempfile.mkdtemp())):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.tmp").write_text("result")
    os.replace(folder / "a.tmp", folder / "a.txt")
    assert (folder / "a.txt").read_text() == "result"
    with sqlite3.connect(folder / "a.db") as database:
        database.execute("create table t (x)")
        assert database.execute("select count(*) from t").fetchone() == (0,)
os.replace(run / "a.txt", run / "new" / "moved.txt")
assert (run / "new" / "moved.txt").read_text() == "result"
assert subprocess.run([sys.executable, "-c", "import numpy, wmplan.scene"]).returncode == 0
assert Path("/proc/self/status").read_text()
import scipy.stats
again = forbid(store)
assert again.landlock == guards.landlock
assert open(store / "manifest.json").read()
""",
    )


def test_a_second_store_can_be_forbidden_too(store: Path) -> None:
    attempt(
        store,
        """
other = run / "other"
(other / "sealed").mkdir(parents=True)
(other / "sealed" / "x.parquet").write_text("x")
(other / "open.txt").write_text("x")
forbid(other)
refused(lambda: open(other / "sealed" / "x.parquet"))
refused(lambda: open(secret))
assert open(other / "open.txt").read() == "x"
""",
    )


def test_who_did_not_forbid_reads(store: Path) -> None:
    ids = SceneStore.open(store).scene_ids
    assert [future.scene_id for future in SealedFutures.open(store).futures()] == list(ids)

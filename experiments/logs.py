"""Where a study's scenes come from: a store, or logs that are ingested once and found again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from wmplan.errors import InputError

FORMATS = ("simulator", "store", "auto", "womd", "womd_json", "womd_tfrecord", "scenarionet", "commonroad", "nuplan")
"""What `logs=` may be: a reader's name, `auto` (by the files), `womd` (TFRecord or JSON), `store` (ingested before)."""


@dataclass(frozen=True)
class LogsConfig:
    """Where the scenes come from."""

    format: str = "simulator"
    """A reader's name, `auto`, or `store` for a folder that `wmplan ingest` wrote."""
    path: str = ""
    """File or folder of the logs or of the store; the simulator needs none."""
    n: int = 16
    """How many logs the simulator makes."""
    seed: int = 1000
    """Which logs the simulator makes; the shipped model was trained on other seeds."""
    ego: str = "recorded"
    """Which tracks are egos: `recorded` (the recording car) or `any` (every track of at least six seconds)."""
    split: str = ""
    """Only scenes of this split, `train` or `val`; empty = all."""


def resolve_store(logs: LogsConfig, cache: Path) -> Path:
    """The store with these scenes; logs are ingested into the cache folder unless they were before.

    What was ingested is found again by the config, by names, sizes and times of the files, and by the code that reads
    them: a changed file or a changed reader is read anew.

    Raises:
        InputError: nothing usable there.
    """
    if logs.split not in ("", "train", "val"):
        raise InputError(f"study: logs.split is {logs.split!r}, expected train, val or nothing")
    if logs.format == "simulator" and not logs.path:
        source = f"simulator:n={logs.n},seed={logs.seed}"
    elif not logs.path:
        raise InputError(f"study: logs.path is empty, expected the file or folder of the {logs.format} logs")
    else:
        source = str(Path(logs.path).resolve()) if not logs.path.startswith("simulator:") else logs.path
    folder = Path(source)
    if logs.format == "store" or (logs.format == "auto" and (folder / "manifest.json").is_file()):
        return folder
    out = cache / "stores" / f"{logs.format}-{_key(logs, source)}"
    if not (out / "manifest.json").is_file():
        from experiments.assembly import use_compilation_cache
        from experiments.ingest import IngestCommand, ingest

        out.parent.mkdir(parents=True, exist_ok=True)
        use_compilation_cache(cache)
        ingest(IngestCommand(source=source, out=str(out), format=logs.format, ego=logs.ego))  # type: ignore[arg-type]
    return out


def _key(logs: LogsConfig, source: str) -> str:
    """Names what an ingest would read and how."""
    root = Path(source)
    paths = sorted(root.rglob("*")) if root.is_dir() else [root] if root.exists() else []
    listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    text = json.dumps([source, logs.format, logs.ego, listing, code_digest()])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def code_digest() -> str:
    """Digest of the source that turns logs into scenes and compares plans with what followed."""
    import wmplan

    root, here = Path(wmplan.__file__).parent, Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([*root.glob("*.py"), *root.glob("readers/*.py"), *root.glob("simulator/*.py")]):
        digest.update(path.read_bytes())
    for name in ("agreement.py", "perturb.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()

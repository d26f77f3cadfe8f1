"""`wmplan ingest`: driving logs in, a store of scenes out, what failed listed in one line each.

Exit status: 0 all files gave scenes, 3 some did not (listed here and in the manifest), 1 nothing usable, no store.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from experiments.fields import docs_of
from experiments.files import sha256
from experiments.progress import say, track
from wmplan.errors import InputError
from wmplan.readers import READERS, reader
from wmplan.scene import Log
from wmplan.store import Failure, SourceFile
from wmplan.store_writer import StoreWriter
from wmplan.windows import WindowConfig, cut

SIMULATOR = "simulator"
ALIASES = {"womd": ("womd_tfrecord", "womd_json")}
"""Names for several formats at once."""
FAILED_STATUS = 3
"""Exit status of an ingest that is done with failures."""


def _window(name: str) -> Any:
    """The field of `WindowConfig` of this name: its default and its help text, said once."""
    default = WindowConfig.__dataclass_fields__[name].default
    return field(default=default, metadata={"help": docs_of(WindowConfig)[name]})


@dataclass(frozen=True)
class IngestCommand:
    """What to read, where to write, which moments become scenes."""

    source: str
    """file or folder of logs (searched through), or a simulation such as simulator:n=200,seed=0"""
    out: str
    """folder of the new store"""
    format: str = "auto"
    """a reader's name, womd (TFRecord or JSON), or auto: by the files themselves"""
    ego: Literal["recorded", "any"] = _window("ego")
    stride_s: float = _window("stride_s")
    val_fraction: float = 0.2
    """share of the groups (recordings that share traffic) marked for validation, by a hash of the group's name"""
    limit: int = 0
    """read only the first so many files; 0 = all"""
    overwrite: bool = False
    """replace the store that is there"""
    min_history_s: float = _window("min_history_s")
    min_future_s: float = _window("min_future_s")
    min_track_s: float = _window("min_track_s")
    min_ego_path_m: float = _window("min_ego_path_m")
    radius_m: float = _window("radius_m")
    max_agents: int = _window("max_agents")
    map_radius_m: float = _window("map_radius_m")

    def windows(self) -> WindowConfig:
        """The part of it that says which moments become scenes.

        Raises:
            InputError: a value that cannot be.
        """
        try:
            return WindowConfig(**{item.name: getattr(self, item.name) for item in fields(WindowConfig)})
        except ValueError as error:
            raise InputError(f"ingest: {str(error).removeprefix('WindowConfig.')}") from error


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did."""

    out: Path
    digest: str
    files: int
    logs: int
    scenes: int
    train: int
    val: int
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def status(self) -> int:
        """Exit status: 0, or 3 where files failed."""
        return FAILED_STATUS if self.failures else 0


def run(config: IngestCommand) -> int:
    """Ingest, say what came out, and give the exit status."""
    done = ingest(config)
    failed = f", {len(done.failures)} failed (listed in {done.out / 'manifest.json'})" if done.failures else ""
    print(
        f"{done.out}: {done.scenes} scenes ({done.train} train, {done.val} val) of {done.logs} logs "
        f"from {done.files} files{failed}, {done.seconds:.0f} s"
    )
    return done.status


def ingest(config: IngestCommand) -> IngestSummary:
    """Read the source and write the store. A file that fails is told in one line and listed; the others go on.

    Raises:
        InputError: nothing there that a reader knows, no scene from any file, or `out` exists. Then no store is left.
    """
    began = time.monotonic()
    windows = config.windows()
    if config.limit < 0:
        raise InputError(f"ingest: limit is {config.limit}, expected 0 or more")
    out = Path(config.out)
    settings = {name: value for name, value in asdict(config).items() if name not in ("out", "overwrite", "limit")}
    # The writer comes first: an `out` that cannot be is told before anything is read.
    with StoreWriter(out, windows.map_radius_m, config.val_fraction, settings, config.overwrite) as writer:
        found = find_logs(config.source, config.format)
        files = found[: config.limit] if config.limit else found
        if not files:
            expected = f"files for {', '.join(READERS)}" if config.format == "auto" else f"{config.format} files"
            raise InputError(f"{config.source}: no logs found, expected {expected}")
        sources: list[SourceFile] = []
        failures: list[Failure] = []
        owners: dict[str, str] = {}
        root = Path(config.source)
        for name, path in track(files, "ingest", len(files), note=lambda _: f"{writer.scenes} scenes"):
            shown = str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name
            before, logs = writer.scenes, 0
            try:
                for log in _fresh(reader(name).read(path), shown, owners):
                    logs += 1
                    written = writer.scenes
                    for scene, future in cut(log, windows):
                        writer.add(log, scene, future)
                    if writer.scenes == written:
                        _tell(failures, shown, no_ego(log, windows))
            except Exception as error:  # whatever is wrong with one file, the others go on
                words = " ".join(str(error).split())
                _tell(failures, shown, words if isinstance(error, InputError) else f"{type(error).__name__}: {words}")
            sources.append(SourceFile(shown, name, _digest(path), logs, writer.scenes - before))
        if not writer.scenes:
            first = f" (first: {failures[0].message})" if failures else ""
            raise InputError(f"{config.source}: no scene from {len(files)} files, expected at least one{first}")
        manifest = writer.finish(sources, failures)
    counts = manifest.counts
    return IngestSummary(
        out=out,
        digest=manifest.digest,
        files=len(files),
        logs=counts["logs"],
        scenes=counts["scenes"],
        train=counts["train"],
        val=counts["val"],
        failures=manifest.failures,
        seconds=time.monotonic() - began,
    )


def find_logs(source: str, format: str) -> list[tuple[str, Path]]:
    """Reader name and path of every log file below `source`, sorted by path; the first reader that knows a file has it.

    Raises:
        InputError: the format has no reader, or the source does not exist.
    """
    if not source:
        raise InputError("ingest: source is empty, expected a file, a folder or simulator:n=200")
    simulated = source == SIMULATOR or source.startswith(f"{SIMULATOR}:")
    if simulated and format == "auto":
        names: tuple[str, ...] = (SIMULATOR,)
    elif format == "auto":
        names = tuple(name for name in READERS if name != SIMULATOR)  # which would load JAX for nothing
    else:
        names = ALIASES.get(format, (format,))
    if not simulated and not Path(source).exists():
        raise InputError(f"{source}: does not exist, expected a file or folder of logs")
    owner: dict[Path, str] = {}
    order: list[Path] = []
    for name in names:
        for path in reader(name).paths(Path(source)):
            if path not in owner:
                owner[path] = name
                order.append(path)
    return [(owner[path], path) for path in (order if simulated else sorted(order))]


def no_ego(log: Log, windows: WindowConfig) -> str:
    """Why a log gave no scene, in one line."""
    if windows.ego == "recorded" and log.recorded_ego not in log.tracks.ids:
        return f"{log.log_id}: no usable ego (the log marks no recording car), expected one (or ego=any)"
    whose = "the recording car" if windows.ego == "recorded" else "any vehicle"
    return (
        f"{log.log_id}: no usable ego ({log.tracks.valid.shape[1]} steps of {log.dt_s:g} s), expected {whose} "
        f"seen without a gap for {windows.min_history_s:g} s before and {windows.min_future_s:g} s after a moment"
    )


def _fresh(logs: Iterator[Log], file: str, owners: dict[str, str]) -> Iterator[Log]:
    """The logs, as long as their ids are new."""
    for log in logs:
        if log.log_id in owners:
            raise InputError(f"{log.log_id}: log id seen before in {owners[log.log_id]}, expected each log once")
        owners[log.log_id] = file
        yield log


def _tell(failures: list[Failure], file: str, message: str) -> None:
    """List a failure and say it in one line that begins with the file."""
    failures.append(Failure(file, message))
    say(message if Path(file).name in message else f"{file}: {message}")


def _digest(path: Path) -> str:
    """sha256 of a file's bytes, of a folder's files one after the other, or of a name that is no file."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256(str(path).encode() if not path.is_dir() else b"")
    for file in sorted(path.rglob("*")) if path.is_dir() else []:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()

"""A finished run: its tables as frozen rows and as files, and a manifest that names them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.files import sha256, write_atomically, write_text
from experiments.ope.joining import Joined
from experiments.ope.preparing import Prepared, stored_config
from wmplan.errors import InputError

VALUES, ESTIMATES, AGREEMENT, DIFFERENCES, FAILURES, WEIGHTS, POWERED = (
    f"{name}.parquet" for name in ("values", "estimates", "agreement", "differences", "failures", "weights", "powered")
)
MANIFEST = "manifest.json"
TABLES = (VALUES, ESTIMATES, AGREEMENT, DIFFERENCES, FAILURES, WEIGHTS, POWERED)


@dataclass(frozen=True)
class Manifest:
    """What a run was of, and what is in its folder."""

    digest: str
    scenes: int
    groups: int
    policies: tuple[str, ...]
    rejected: tuple[str, ...]
    estimators: tuple[str, ...]
    truths: tuple[str, ...]
    scores: tuple[str, ...]
    road: str
    horizon_s: float
    draws: int
    executed: int
    failed_scenes: int
    digests: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Row:
    """A row of `agreement.parquet` or `differences.parquet` (`first` names what the estimator is taken from)."""

    estimator: str
    truth: str
    score: str
    metric: str
    value: float
    low_scenes: float
    high_scenes: float
    low_policies: float
    high_policies: float
    policies: int
    words: str = ""
    first: str = ""

    @property
    def over_scenes(self) -> tuple[float, float]:
        """The interval over scenes."""
        return self.low_scenes, self.high_scenes

    @property
    def over_policies(self) -> tuple[float, float]:
        """The interval over policies."""
        return self.low_policies, self.high_policies


def rows_of(table: pd.DataFrame, score: str = "", truth: str = "") -> list[Row]:
    """The rows of a table, only of this score and truth where they are named."""
    if table.empty:
        return []
    for name, wanted in (("score", score), ("truth", truth)):
        table = table[table[name] == wanted] if wanted else table
    names = [field.name for field in fields(Row) if field.name in table.columns]
    return [Row(**dict(zip(names, row))) for row in table[names].itertuples(index=False, name=None)]


def by_estimator(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """The rows of one score and truth, by estimator and metric."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.estimator, {})[row.metric] = row
    return found


@dataclass(frozen=True)
class Finished:
    """A run folder: its tables as DataFrames.

    Example:
        found = Finished.open("runs/ope-0123456789abcdef")
        found.agreement.query("metric == 'spearman' and score == 'pdms'")
    """

    folder: Path
    manifest: Manifest
    values: pd.DataFrame
    estimates: pd.DataFrame
    agreement: pd.DataFrame
    differences: pd.DataFrame
    failures: pd.DataFrame
    weights: pd.DataFrame
    powered: pd.DataFrame

    @staticmethod
    def open(folder: str | Path) -> Finished:
        """The run in this folder.

        Raises:
            InputError: there is none, or it is not finished.
        """
        folder = Path(folder)
        missing = [name for name in (MANIFEST, *TABLES) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder}: no {', '.join(missing)} there, expected the folder of a finished wmplan ope")
        about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        lists = {name: tuple(about[name]) for name in ("policies", "rejected", "estimators", "truths", "scores")}
        tables = [pd.read_parquet(folder / name) for name in TABLES]
        return Finished(folder, Manifest(**{**about, **lists}), *tables)

    @property
    def config(self) -> dict[str, Any]:
        """The command that made it."""
        return dict(stored_config(self.folder)["config"])


def finish(run: Prepared, joined: Joined) -> Finished:
    """The figures of what was joined, in files."""
    from experiments.ope.agreeing import agreement_table, agreements
    from experiments.ope.figures import estimates, estimates_table
    from experiments.ope.powering import powered, powered_table

    out, command = run.settings.out, run.settings.command
    write_table(out / VALUES, joined.values)
    write_table(out / FAILURES, joined.failures)
    write_table(out / WEIGHTS, weights(joined.weighed))
    found, apart = agreements(run, joined)
    write_table(out / ESTIMATES, estimates_table(estimates(run, joined)))
    write_table(out / POWERED, powered_table(powered(run, joined)))
    write_table(out / AGREEMENT, agreement_table(found))
    write_table(out / DIFFERENCES, agreement_table(apart))
    manifest = Manifest(
        run.digest,
        len(joined.scenes),
        len(set(joined.groups.values())),
        run.settings.policies,
        tuple(run.rejected),
        tuple(dict.fromkeys(pd.read_parquet(out / ESTIMATES, columns=["estimator"])["estimator"])),
        joined.truths,
        command.scores,
        command.road,
        command.horizon_s,
        command.draws,
        command.executed,
        len(set(joined.failures.loc[joined.failures["kind"].isin(("estimates", "truth")), "scene_id"])),
        run.digests,
        {name: sha256(out / name) for name in TABLES},
    )
    write_text(out / MANIFEST, json.dumps(asdict(manifest), indent=1) + "\n")
    return Finished.open(out)


def weights(weighed: pd.DataFrame) -> pd.DataFrame:
    """A row for each policy with weights and each logged decision: how far the logs speak for it up to there."""
    columns = ["policy", "decision", "ess", "max_share", "mean_weight", "common", "usable"]
    if not len(weighed):
        return pd.DataFrame(columns=columns)
    once = weighed.drop_duplicates("policy")
    once = once[[len(x) > 0 for x in once["ess"]]]
    parts = [
        pd.DataFrame(
            {"policy": policy, "decision": range(len(ess)), "ess": ess, "max_share": share}
            | {"mean_weight": mean, "common": common, "usable": int(usable[0])}
        )
        for policy, ess, share, mean, common, usable in zip(
            *(once[name] for name in ("policy", "ess", "max_share", "mean_weight", "common", "usable"))
        )
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def write_table(path: Path, rows: pd.DataFrame) -> Path:
    """Path of a Parquet file, after it was written whole."""
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    return write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))

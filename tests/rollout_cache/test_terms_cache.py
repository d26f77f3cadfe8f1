"""The cache: what goes in comes out, what is damaged never does, and processes and kills do no harm."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rollout_cache import (
    CacheStats,
    KeyParts,
    NoCache,
    TermsCache,
    evaluate_cached,
    info,
    open_cache,
    prune,
    rows,
    term_keys,
    verify,
)
from wmplan.errors import InputError
from wmplan.plans import Plans

PARTS = KeyParts("model", "critic", "raster", 7, 4, 6)


def keys_of(count: int, seed: int = 0) -> list[bytes]:
    return [np.random.default_rng([seed, i]).bytes(32) for i in range(count)]


def row_of(key: bytes, columns: int = 9) -> np.ndarray:
    """Rows that follow from their key, so that any process can say whether a row is the right one."""
    return np.random.default_rng(list(key)).normal(size=columns).astype(np.float32)


def rows_of(keys: list[bytes], columns: int = 9) -> np.ndarray:
    return np.stack([row_of(key, columns) for key in keys])


def plans_of(count: int = 5, speed: float = 8.0, seed: int = 0) -> Plans:
    controls = np.random.default_rng(seed).normal(size=(count, 30, 2)) * [1.5, 0.02]
    return Plans.from_controls(controls, speed)


# ------------------------------------------------------------------------------------------------------- rows


@given(hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=True)), st.binary(max_size=32))
def test_row_round_trip_keeps_every_bit(row, key):
    assert rows.unpack(key, rows.pack(key, row)).tobytes() == row.tobytes()


@given(hnp.arrays(np.float32, st.integers(0, 12), elements=st.floats(width=32, allow_nan=True)), st.data())
@settings(max_examples=30)
def test_every_flipped_bit_and_every_truncation_is_seen(row, data):
    value = rows.pack(b"key", row)
    for byte in range(len(value)):
        broken = bytearray(value)
        broken[byte] ^= 1 << data.draw(st.integers(0, 7))
        assert rows.unpack(b"key", bytes(broken)) is None
        assert rows.unpack(b"key", value[:byte]) is None
    assert rows.unpack(b"key", value + b"\0\0\0\0") is None
    assert rows.unpack(b"another", value) is None


# ------------------------------------------------------------------------------------------------------- keys


def test_equal_content_gives_equal_keys_and_companions_do_not_matter():
    plans = plans_of()
    again = Plans.from_controls(plans.controls.astype(np.float64) + 1e-9, 8.0)
    assert term_keys(PARTS, plans) == term_keys(dataclasses.replace(PARTS), again)
    assert term_keys(PARTS, plans.select([3, 1])) == [term_keys(PARTS, plans)[3], term_keys(PARTS, plans)[1]]


def test_every_ingredient_changes_the_key():
    plans = plans_of(1)
    seen = {term_keys(PARTS, plans)[0]}
    other = {
        "model": "m2",
        "critic": "c2",
        "raster": "r2",
        "noise_seed": 8,
        "samples": 2,
        "horizon": 5,
        "precision": "bf16",
    }
    assert set(other) == {f.name for f in dataclasses.fields(KeyParts)}
    for name, value in other.items():
        seen.add(term_keys(dataclasses.replace(PARTS, **{name: value}), plans)[0])
    nudged = plans.controls.astype(np.float64).copy()
    nudged[0, 29, 1] += 1e-4
    seen.add(term_keys(PARTS, Plans.from_controls(nudged, 8.0))[0])
    seen.add(term_keys(PARTS, Plans.from_controls(plans.controls.astype(np.float64), 8.1))[0])
    seen.add(term_keys(PARTS, Plans.from_controls(plans.controls[:, :29].astype(np.float64), 8.0))[0])
    assert len(seen) == 1 + len(other) + 3


def test_texts_that_run_into_each_other_stay_apart():
    plans = plans_of(1)
    a = dataclasses.replace(PARTS, model="ab", critic="c")
    b = dataclasses.replace(PARTS, model="a", critic="bc")
    assert term_keys(a, plans) != term_keys(b, plans)


# ------------------------------------------------------------------------------------------------------ store


def test_rows_come_back_also_after_reopening(tmp_path):
    keys = keys_of(300)
    with TermsCache(tmp_path / "cache") as cache:
        assert not cache.lookup(keys, 9)[0].any()
        assert cache.store(keys[:200], rows_of(keys[:200])) == 200
    with TermsCache(tmp_path / "cache") as cache:
        found, values = cache.lookup(keys, 9)
        assert found.tolist() == [True] * 200 + [False] * 100
        assert np.array_equal(values[:200], rows_of(keys[:200]))
        assert np.isnan(values[200:]).all()
        assert cache.get_many(keys[199:201]) == [row_of(keys[199]).tobytes(), None]
        assert cache.stats == CacheStats(hits=201, misses=101)


def test_damaged_rows_are_dropped_counted_and_computed_again(tmp_path):
    keys = keys_of(4)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys))
    env = lmdb.open(str(tmp_path))
    with env.begin(write=True) as transaction:
        value = bytearray(transaction.get(keys[1]))
        value[11] ^= 4
        transaction.put(keys[1], bytes(value))
        transaction.put(keys[2], b"")
    env.close()
    assert verify(tmp_path).damaged == 2
    asked = []

    def compute(indices):
        asked.extend(indices.tolist())
        return rows_of([keys[i] for i in indices])

    with TermsCache(tmp_path) as cache:
        assert np.array_equal(evaluate_cached(cache, keys, 9, compute), rows_of(keys))
        assert cache.stats == CacheStats(hits=2, misses=2, damaged=2, stored=2)
    assert asked == [1, 2]
    assert verify(tmp_path) == dataclasses.replace(info(tmp_path), row_bytes=4 * (8 + 36), damaged=0)


def test_a_row_of_another_width_is_no_hit(tmp_path):
    keys = keys_of(1)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys, 8))
        found, _ = cache.lookup(keys, 9)
        assert not found.any()
        assert cache.stats.damaged == 1


def test_only_missing_rows_are_computed_and_twins_once():
    keys = keys_of(3)
    calls = []

    def compute(indices):
        calls.append(indices.tolist())
        return rows_of([keys[i % 3] for i in indices])

    values = evaluate_cached(NoCache(), [*keys, keys[0]], 9, compute)
    assert calls == [[0, 1, 2]]
    assert np.array_equal(values, rows_of([*keys, keys[0]]))


def test_with_and_without_cache_the_same_bytes_non_finite_included(tmp_path):
    keys = keys_of(6)
    truth = rows_of(keys)
    truth[2, 3], truth[4, 0] = np.nan, np.inf

    def compute(indices):
        return truth[indices]

    plain = evaluate_cached(open_cache(None), keys, 9, compute)
    with open_cache(tmp_path) as cache:
        first = evaluate_cached(cache, keys, 9, compute)
        second = evaluate_cached(cache, keys, 9, lambda indices: pytest.fail("computed again"))
    assert plain.tobytes() == first.tobytes() == second.tobytes() == truth.tobytes()


def test_the_map_grows_and_stops_at_the_budget(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("rollout_cache.store.FIRST_MAP_BYTES", 1 << 16)
    monkeypatch.setattr("rollout_cache.store.BATCH_ROWS", 64)
    keys = keys_of(3000)
    with TermsCache(tmp_path, max_bytes=1 << 19) as cache:
        stored = cache.store(keys, rows_of(keys, 40))
        assert (1 << 16) / 200 < stored < 3000, "more than the first map holds, less than everything"
        assert cache.stats.stored == stored
        assert cache.stats.unstored == 3000 - stored
        cache.store(keys[-5:], rows_of(keys[-5:], 40))
        found, values = cache.lookup(keys, 40)
        assert found.sum() == stored
        assert np.array_equal(values[found], rows_of(keys, 40)[found])
    assert len([r for r in caplog.records if "without storing" in r.message]) == 1
    assert (tmp_path / "data.mdb").stat().st_size <= 1 << 19


def test_a_folder_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"not a database" * 2000)
    with pytest.raises(InputError, match="rollout cache"):
        TermsCache(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="rollout cache"):
        TermsCache(tmp_path / "file")
    with pytest.raises(InputError, match=r"no data\.mdb"):
        info(tmp_path / "nothing")


def test_prune_keeps_whole_rows_within_the_bound(tmp_path):
    keys = keys_of(100)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys))
    size = 32 + 8 + 36
    assert prune(tmp_path, 40 * size + 5).entries == 40
    with TermsCache(tmp_path) as cache:
        found, values = cache.lookup(keys, 9)
        assert found.sum() == 40
        assert np.array_equal(values[found], rows_of(keys)[found])


# -------------------------------------------------------------------------------------------------- processes

WRITER = textwrap.dedent("""
    import sys
    import numpy as np
    import rollout_cache.store as store
    path, seed, count, first_map = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    store.FIRST_MAP_BYTES = first_map
    keys = [np.random.default_rng([seed, i]).bytes(32) for i in range(count)]
    with store.TermsCache(path) as cache:
        print("ready", flush=True)
        for i in range(0, count, 50):
            part = keys[i : i + 50]
            rows = np.stack([np.random.default_rng(list(k)).normal(size=9).astype(np.float32) for k in part])
            cache.store(part, rows)
            cache.lookup(keys[: i + 50], 9)
        print(cache.stats.stored, cache.stats.damaged, flush=True)
""")


def spawn(path, seed: int, count: int, first_map: int = 1 << 16) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), str(seed), str(count), str(first_map)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_two_processes_write_one_cache_while_it_grows(tmp_path):
    writers = [spawn(tmp_path, seed, 2000) for seed in (1, 2)]
    said = [writer.communicate(timeout=60)[0].split() for writer in writers]
    assert said == [["ready", "2000", "0"]] * 2
    with TermsCache(tmp_path) as cache:
        keys = keys_of(2000, 1) + keys_of(2000, 2)
        found, values = cache.lookup(keys, 9)
        assert found.all()
        assert np.array_equal(values, rows_of(keys))
    assert (tmp_path / "data.mdb").stat().st_size > 1 << 16, "the map had to grow under both"


def test_a_killed_writer_leaves_only_whole_rows(tmp_path):
    writer = spawn(tmp_path, 3, 100_000)
    assert writer.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 30.0
    while not (tmp_path / "data.mdb").is_file() or info(tmp_path).entries < 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    report = verify(tmp_path)
    assert report.damaged == 0
    with TermsCache(tmp_path) as cache:
        keys = keys_of(report.entries + 50, 3)
        found, values = cache.lookup(keys, 9)
        assert found.sum() == report.entries
        assert np.array_equal(values[found], rows_of(keys)[found])
        assert cache.store(keys_of(5, 4), rows_of(keys_of(5, 4))) == 5, "the dead writer's lock is gone"


FULL_DISK = textwrap.dedent("""
    import resource, sys
    import numpy as np
    from rollout_cache import TermsCache
    keys = [np.random.default_rng([5, i]).bytes(32) for i in range(4000)]
    rows = np.stack([np.random.default_rng(list(k)).normal(size=9).astype(np.float32) for k in keys])
    with TermsCache(sys.argv[1]) as cache:
        cache.store(keys[:500], rows[:500])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        for first in range(500, 4000, 500):
            cache.store(keys[first : first + 500], rows[first : first + 500])
        found, values = cache.lookup(keys, 9)
        assert np.array_equal(values[found], rows[found])
        print(found[:500].all(), cache.stats.unstored > 0, found.sum() == cache.stats.stored)
""")


def test_a_full_disk_costs_storing_and_nothing_else(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "True", "True"], done.stderr
    assert done.stderr.count("without storing") == 1
    assert verify(tmp_path).damaged == 0

"""The cache: what goes in comes out, what is damaged never does, and processes and kills do no harm."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor, wait

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
from rollout_cache.shard import Shard, shard_path
from wmplan.errors import InputError
from wmplan.plans import Plans

PARTS = KeyParts("model", "critic", "raster", 7, 4, 6)


def keys_of(count: int, seed: int = 0, shards: int = 3) -> list[bytes]:
    """Keys in a few shards, as candidates of a few scenes have them."""
    scene = [np.random.default_rng([seed, 10**6 + i]).bytes(16) for i in range(shards)]
    return [scene[i % shards] + np.random.default_rng([seed, i]).bytes(16) for i in range(count)]


def row_of(key: bytes, columns: int = 9) -> np.ndarray:
    """Rows that follow from their key, so that any process can say whether a row is the right one."""
    return np.random.default_rng(list(key)).normal(size=columns).astype(np.float32)


def rows_of(keys: list[bytes], columns: int = 9) -> np.ndarray:
    return np.stack([row_of(key, columns) for key in keys])


def plans_of(count: int = 5, speed: float = 8.0, seed: int = 0) -> Plans:
    controls = np.random.default_rng(seed).normal(size=(count, 30, 2)) * [1.5, 0.02]
    return Plans.from_controls(controls, speed)


# ------------------------------------------------------------------------------------------------------- rows

NAME = b"0123456789abcdef"
PLAN = b"fedcba9876543210"


@given(
    hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=True)),
    st.binary(min_size=16, max_size=16),
)
def test_row_round_trip_keeps_every_bit(row, plan):
    found = rows.scan(NAME, rows.pack(NAME, plan, row))
    assert found.damaged == 0
    assert {key: value.tobytes() for key, value in found.rows.items()} == {plan: row.tobytes()}


@given(hnp.arrays(np.float32, st.integers(0, 12), elements=st.floats(width=32, allow_nan=True)), st.data())
@settings(max_examples=30)
def test_every_flipped_bit_and_every_truncation_is_seen_and_costs_one_row(row, data):
    """Three rows in a file, the one in the middle changed: it is gone, counted, and its neighbours are not."""
    before, value, after = (rows.pack(NAME, plan, row) for plan in (b"a" * 16, PLAN, b"b" * 16))
    for byte in range(len(value)):
        broken = bytearray(value)
        broken[byte] ^= 1 << data.draw(st.integers(0, 7))
        found = rows.scan(NAME, before + bytes(broken) + after)
        assert (sorted(found.rows), found.damaged) == ([b"a" * 16, b"b" * 16], 1)
        assert found.whole == before + after
        cut = rows.scan(NAME, before + value[:byte] + after)
        assert (sorted(cut.rows), cut.damaged) == ([b"a" * 16, b"b" * 16], 1 if byte else 0)
    assert rows.scan(NAME, value + b"\0\0\0\0").damaged == 1
    assert rows.scan(b"another shard...", value).rows == {}, "a row in the wrong file"


@given(st.binary(max_size=300))
def test_any_bytes_can_be_scanned(data):
    found = rows.scan(NAME, data)
    assert not found.rows
    assert found.damaged == (1 if data else 0)


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
    keys = keys_of(4, shards=1)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys))
    path = shard_path(tmp_path, keys[0][:16])
    content = bytearray(path.read_bytes())
    size = len(content) // 4
    content[size + 40] ^= 4
    content[2 * size] ^= 1  # the mark of the third row
    path.write_bytes(bytes(content))
    assert verify(tmp_path).damaged == 1, "two rows side by side are one damaged place"
    assert verify(tmp_path).rows == 2
    asked = []

    def compute(indices):
        asked.extend(indices.tolist())
        return rows_of([keys[i] for i in indices])

    with TermsCache(tmp_path) as cache:
        assert np.array_equal(evaluate_cached(cache, keys, 9, compute), rows_of(keys))
        assert cache.stats == CacheStats(hits=2, misses=2, damaged=1, stored=2)
    assert asked == [1, 2]
    assert (verify(tmp_path).rows, verify(tmp_path).damaged, info(tmp_path).bytes) == (4, 0, 4 * size)


def test_verify_drops_what_is_damaged_and_what_killed_processes_left(tmp_path):
    keys = keys_of(30)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys))
    path = shard_path(tmp_path, keys[0][:16])
    path.write_bytes(path.read_bytes()[:-5])
    left = path.with_name(f"{path.name}.123.tmp")
    left.write_bytes(b"half")
    assert (verify(tmp_path).rows, verify(tmp_path).damaged) == (29, 1)
    assert verify(tmp_path, drop=True).damaged == 1
    assert (verify(tmp_path).rows, verify(tmp_path).damaged) == (29, 0)
    assert not left.exists()


def test_more_scenes_at_once_than_are_kept_in_memory(tmp_path):
    keys = keys_of(60, shards=30)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys))
        assert np.array_equal(cache.lookup(keys, 9)[1], rows_of(keys))


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


def test_the_least_recently_used_scenes_make_room(tmp_path):
    """Ten scenes of about 11 kB in a budget of 90 kB: the budget holds, and the scene that is read stays."""
    scenes = [keys_of(50, seed, shards=1) for seed in range(10)]
    kept = []
    for age, keys in enumerate(scenes):
        with TermsCache(tmp_path, max_bytes=90_000) as cache:
            assert age == 0 or cache.lookup(scenes[0], 40)[0].all(), "used all the time"
            cache.store(keys, rows_of(keys, 40))
        assert info(tmp_path).bytes <= 90_000
        os.utime(shard_path(tmp_path, keys[0][:16]), (1e9 + age, 1e9 + age))
        os.utime(shard_path(tmp_path, scenes[0][0][:16]), (1e9 + age + 0.5, 1e9 + age + 0.5))
    with TermsCache(tmp_path) as cache:
        kept = [bool(cache.lookup(keys, 40)[0].all()) for keys in scenes]
        assert [bool(cache.lookup(keys, 40)[0].any()) for keys in scenes] == kept, "whole scenes or none"
    assert kept[0]
    assert kept[-1]
    assert 1 < kept.count(False) < 8
    assert kept[1:] == sorted(kept[1:]), "the oldest are gone"


def test_reading_marks_a_scene_as_used(tmp_path):
    keys = keys_of(4, shards=2)
    with TermsCache(tmp_path) as cache:
        cache.store(keys, rows_of(keys))
    for key in keys:
        os.utime(shard_path(tmp_path, key[:16]), (1e9, 1e9))
    with TermsCache(tmp_path) as cache:
        cache.lookup(keys[:1], 9)
    assert prune(tmp_path, info(tmp_path).bytes // 2).shards == 1
    with TermsCache(tmp_path) as cache:
        assert cache.lookup(keys, 9)[0].tolist() == [True, False, True, False]


def test_a_folder_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("not a cache")
    with pytest.raises(InputError, match=r"holds 'thesis.tex'.*rollout cache"):
        TermsCache(tmp_path)
    with pytest.raises(InputError, match=r"thesis.tex"):
        prune(tmp_path, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="rollout cache"):
        TermsCache(tmp_path / "file")
    with pytest.raises(InputError, match="expected the folder of a rollout cache"):
        info(tmp_path / "nothing")


def test_a_shard_that_another_process_removed_or_mended_is_read_again(tmp_path):
    keys = keys_of(6, shards=1)
    with TermsCache(tmp_path) as cache, TermsCache(tmp_path) as other:
        cache.store(keys[:2], rows_of(keys[:2]))
        assert other.lookup(keys, 9)[0].sum() == 2
        path = shard_path(tmp_path, keys[0][:16])
        with path.open("ab") as handle:
            handle.write(b"cut short by a kill")
        assert other.lookup(keys, 9)[0].sum() == 2
        assert other.stats.damaged == 1
        cache.store(keys[2:4], rows_of(keys[2:4]))
        found, values = other.lookup(keys, 9)
        assert found.sum() == 4
        assert np.array_equal(values[:4], rows_of(keys[:4]))
        path.unlink()
        cache.store(keys[4:], rows_of(keys[4:]))
        with TermsCache(tmp_path) as fresh:
            assert fresh.lookup(keys, 9)[0].tolist() == [False] * 4 + [True] * 2
    assert verify(tmp_path).damaged == 0


def test_the_cache_keeps_its_own_copy(tmp_path):
    keys, values = keys_of(2, shards=1), rows_of(keys_of(2, shards=1))
    with TermsCache(tmp_path) as cache:
        cache.store(keys, values)
        values[:] = 0.0
        found = cache.lookup(keys, 9)[1]
        found[:] = 1.0
        assert np.array_equal(cache.lookup(keys, 9)[1], rows_of(keys))


# -------------------------------------------------------------------------------------------------- processes

HAMMER = textwrap.dedent("""
    import random, sys
    import numpy as np
    from rollout_cache import TermsCache
    path, seed = sys.argv[1], int(sys.argv[2])
    scenes = [np.random.default_rng([seed % 2, 10**6 + i]).bytes(16) for i in range(3)]
    random.seed(seed)
    with TermsCache(path) as cache:
        print("ready", flush=True)
        for i in range(int(sys.argv[3])):
            numbers = [random.randrange(10**6) for _ in range(random.randrange(1, 400))]
            keys = [scenes[n % 3] + np.random.default_rng([seed % 2, n]).bytes(16) for n in numbers]
            rows = np.stack([np.random.default_rng(list(k)).normal(size=9).astype(np.float32) for k in keys])
            found, values = cache.lookup(keys, 9)
            assert np.array_equal(values[found], rows[found])
            cache.store(keys, rows)
            print(*numbers, flush=True)
        print("done", cache.stats.stored, flush=True)
""")
"""Stores random rows in scenes that it shares with every second process, and says which after each store returned."""


def hammer(path, seed: int, rounds: int) -> subprocess.Popen:
    command = [sys.executable, "-c", HAMMER, str(path), str(seed), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def acknowledged(said: str, seed: int) -> list[bytes]:
    """Keys of the rows that a process said it had stored; a last line that was cut short does not count."""
    scenes = [np.random.default_rng([seed % 2, 10**6 + i]).bytes(16) for i in range(3)]
    lines = [line for line in said.split("\n")[:-1] if line[:1].isdigit()]
    numbers = [int(word) for line in lines for word in line.split()]
    return [scenes[n % 3] + np.random.default_rng([seed % 2, n]).bytes(16) for n in numbers]


def test_kills_at_random_moments_lose_and_break_nothing(tmp_path):
    """Four processes on two sets of scenes, ten kills; what was acknowledged is there, and nothing is wrong."""
    rng, running, heard = np.random.default_rng(0), {}, []
    for seed in range(14):
        running[seed] = hammer(tmp_path, seed, 10**6)
        if seed == 3:
            assert [process.stdout.readline() for process in running.values()] == ["ready\n"] * 4
        if seed < 4:
            continue
        time.sleep(float(rng.uniform(0.05, 0.3)))
        victim = list(running)[int(rng.integers(4))]
        process = running.pop(victim)
        process.send_signal(signal.SIGKILL)
        heard += acknowledged(process.communicate()[0], victim)
    for seed, process in running.items():
        process.send_signal(signal.SIGKILL)
        heard += acknowledged(process.communicate()[0], seed)
    assert len(heard) > 1000
    with TermsCache(tmp_path) as cache:
        found, values = cache.lookup(heard, 9)
        assert found.all(), "acknowledged, and lost"
        assert np.array_equal(values, rows_of(heard))
    assert verify(tmp_path).damaged == 0, "what kills cut short was dropped"
    last = hammer(tmp_path, 1, 5)
    assert last.communicate(timeout=60)[0].splitlines()[-1].startswith("done")


def test_writers_of_one_scene_keep_each_others_rows(tmp_path):
    writers = [hammer(tmp_path, seed, 12) for seed in (0, 2, 4)]
    heard = [key for seed, writer in zip((0, 2, 4), writers) for key in acknowledged(writer.communicate()[0], seed)]
    with TermsCache(tmp_path) as cache:
        found, values = cache.lookup(heard, 9)
        assert found.all()
        assert np.array_equal(values, rows_of(heard))
        assert cache.stats.damaged == 0


FULL_DISK = textwrap.dedent("""
    import resource, sys
    import numpy as np
    from rollout_cache import TermsCache
    keys = [b"s" * 16 + np.random.default_rng([5, i]).bytes(16) for i in range(4000)]
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
    """The kernel's limit on a file's size stands in for the disk: the write is cut short, then refused."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "True", "True"], done.stderr
    assert done.stderr.count("without storing") == 1
    assert verify(tmp_path).damaged == 0


def test_a_shard_is_mended_once(tmp_path):
    shard = Shard(tmp_path, NAME)
    shard.append([(PLAN, np.ones(3, np.float32))])
    with shard.path.open("ab") as handle:
        handle.write(rows.pack(NAME, PLAN, np.zeros(3, np.float32))[:-1])
    again = Shard(tmp_path, NAME)
    assert (again.read(), again.read()) == (1, 0)
    assert Shard(tmp_path, NAME).read() == 0
    assert again.rows[PLAN].tolist() == [1.0, 1.0, 1.0]


def test_a_row_that_is_being_written_is_waited_for(tmp_path):
    """A reader that took half a row for damage would replace the file under the writer."""
    shard = Shard(tmp_path, NAME)
    shard.append([(PLAN, np.ones(3, np.float32))])
    later = rows.pack(NAME, b"x" * 16, np.ones(3, np.float32))
    reader, writer = Shard(tmp_path, NAME), Shard(tmp_path, NAME)
    with ThreadPoolExecutor(2) as pool, shard.path.open("ab", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(later[:20])
        reading = pool.submit(reader.read)
        writing = pool.submit(writer.append, [(b"y" * 16, np.zeros(3, np.float32))])
        assert not wait([reading, writing], timeout=0.3).done
        handle.write(later[20:])
        fcntl.flock(handle, fcntl.LOCK_UN)
        assert reading.result(timeout=10) == 0
        writing.result(timeout=10)
    fresh = Shard(tmp_path, NAME)
    assert fresh.read() == 0
    assert sorted(fresh.rows) == sorted([PLAN, b"x" * 16, b"y" * 16])

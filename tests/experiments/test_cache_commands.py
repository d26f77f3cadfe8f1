"""`wmplan cache`: what is said of a cache, whole, damaged or absent."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.cli import main
from rollout_cache import TermsCache


@pytest.fixture
def cache(tmp_path):
    keys = [bytes([i]) * 16 + bytes([j]) * 16 for i in range(4) for j in range(5)]
    with TermsCache(tmp_path / "terms") as cache:
        cache.store(keys, np.arange(20 * 3, dtype=np.float32).reshape(20, 3))
    return tmp_path


def files(cache):
    return sorted(cache.glob("terms/*/*.rows"))


def test_info_and_verify_of_a_whole_cache(cache, capsys):
    assert main(["cache", "info", f"cache={cache}"]) == 0
    said = capsys.readouterr().out
    assert "4 scenes" in said
    assert "whole" not in said, "nothing was read through"
    assert main(["cache", "verify", f"cache={cache}"]) == 0
    assert "20 rows whole, 0 places damaged" in capsys.readouterr().out


def test_verify_finds_a_flipped_bit_and_drops_it_when_asked(cache, capsys):
    data = bytearray(files(cache)[2].read_bytes())
    data[77] ^= 16
    files(cache)[2].write_bytes(bytes(data))
    assert main(["cache", "verify", f"cache={cache}"]) == 3
    assert "19 rows whole, 1 places damaged" in capsys.readouterr().out
    assert main(["cache", "verify", f"cache={cache}", "drop=true"]) == 0
    capsys.readouterr()
    assert main(["cache", "verify", f"cache={cache}"]) == 0
    assert "19 rows whole, 0 places damaged" in capsys.readouterr().out


def test_prune_keeps_what_fits(cache, capsys):
    size = sum(path.stat().st_size for path in files(cache))
    assert main(["cache", "prune", f"cache={cache}", f"gib={0.6 * size / 2**30}"]) == 0
    assert "2 scenes" in capsys.readouterr().out
    assert main(["cache", "prune", f"cache={cache}", "gib=0"]) == 0
    assert files(cache) == []


def test_no_cache_and_no_size_are_said_in_one_line(tmp_path, capsys):
    assert main(["cache", "info", f"cache={tmp_path / 'nothing'}"]) == 1
    assert "expected the folder of a rollout cache" in capsys.readouterr().err
    (tmp_path / "terms").mkdir()
    assert main(["cache", "prune", f"cache={tmp_path}", "gib=-1"]) == 1
    assert capsys.readouterr().err == "cache prune: gib is -1.0, expected 0 or more\n"
    assert main(["cache", "prune", f"cache={tmp_path}"]) == 2
    assert "gib" in capsys.readouterr().err

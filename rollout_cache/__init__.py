"""Terms of imagined candidates, stored by the content they were made from: nothing is imagined twice.

`keys.term_keys` names a candidate's terms by everything that they depend on; `store.TermsCache` keeps them in files,
one for all candidates of a scene, each row with a checksum, safe for several processes. A damaged, full or absent cache
costs time, never a wrong number.
"""

from pathlib import Path

from rollout_cache.evaluate import Compute, evaluate_cached
from rollout_cache.keys import KeyParts, term_keys
from rollout_cache.maintain import CacheInfo, info, prune, verify
from rollout_cache.stats import CacheStats, NoCache
from rollout_cache.store import TermsCache

__all__ = [
    "CacheInfo", "CacheStats", "Compute", "KeyParts", "NoCache", "TermsCache", "evaluate_cached", "info", "open_cache",
    "prune", "term_keys", "verify",
]  # fmt: skip


def open_cache(path: str | Path | None, max_bytes: int = 8 << 30) -> TermsCache | NoCache:
    """The cache in this folder, or one that holds nothing where `path` is None."""
    return NoCache() if path is None else TermsCache(path, max_bytes)

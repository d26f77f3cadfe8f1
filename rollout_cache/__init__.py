"""Terms of imagined candidates, stored by the content they were made from: nothing is imagined twice.

`keys.term_keys` names a candidate's terms by everything that they depend on; `store.TermsCache` keeps them in LMDB,
each row with a checksum, safe for several processes. A damaged, full or absent cache costs time, never a wrong number.
"""

from rollout_cache import rows
from rollout_cache.evaluate import evaluate_cached
from rollout_cache.keys import KeyParts, term_keys
from rollout_cache.maintain import CacheInfo, info, prune, verify
from rollout_cache.store import CacheStats, NoCache, TermsCache, open_cache

__all__ = [
    "CacheInfo", "CacheStats", "KeyParts", "NoCache", "TermsCache", "evaluate_cached", "info", "open_cache", "prune",
    "rows", "term_keys", "verify",
]  # fmt: skip

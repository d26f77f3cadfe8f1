"""What a study worked out, kept by everything that it depends on: the same study again reads it.

Keys name the inputs, the whole source of wmplan, the packages and the processor: one changed byte of any of them, and
it is worked out anew. Contents carry a checksum: what is damaged counts as not there.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from experiments.files import write_bytes
from experiments.progress import say

PACKAGES = (
    "numpy", "scipy", "pandas", "pyarrow", "torch", "jax", "jaxlib", "scikit-learn", "safetensors", "matplotlib",
    "pillow", "jinja2", "shapely",
)  # fmt: skip
"""Packages whose version may change what a study writes."""
CHECKSUM_BYTES = 32
NOTES = frozenset({"mlflow.json", "mlflow.db"})
"""Files in a model's folder that say where it was logged, and nothing of the model."""


@dataclass(frozen=True)
class Kept:
    """Contents by key in a folder; without a folder nothing is kept."""

    folder: Path | None

    def read(self, key: str) -> bytes | None:
        """What was kept under this key; None where nothing was, or where it is damaged."""
        if self.folder is None:
            return None
        try:
            stored = (self.folder / key).read_bytes()
        except OSError:
            return None
        checksum, content = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
        return content if _checksum(key, content) == checksum else None

    def write(self, key: str, content: bytes) -> None:
        """Keep this content. Where the disk refuses, one line says so and the study goes on."""
        if self.folder is None:
            return
        whole = _checksum(key, content) + content
        try:
            write_bytes(self.folder / key, whole)
        except OSError as error:
            say(f"{self.folder}: {error.strerror or error}; a second run works that out anew")


NOWHERE = Kept(None)
"""Keeps nothing."""


def key_of(kind: str, *parts: object) -> str:
    """A file name for what `kind` makes of these parts (whatever JSON can write), with this code, here."""
    text = json.dumps([parts, source_digest(), surroundings()], sort_keys=True, default=str)
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


@functools.cache
def source_digest() -> str:
    """Digest of all source of wmplan's packages, templates among it."""
    here = Path(__file__).resolve().parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for package in ("wmplan", "critics", "optimizers", "rollout_cache", "experiments"):
        for path in sorted(path for path in (here / package).rglob("*") if path.suffix in (".py", ".j2")):
            digest.update(f"{path.relative_to(here)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def surroundings() -> tuple[str, ...]:
    """Python, packages and processor."""
    return platform.python_version(), *(f"{name} {_version(name)}" for name in PACKAGES), processor()


@functools.cache
def processor() -> str:
    """Names this kind of processor: another may round otherwise, and cannot always run what was compiled here."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    return hashlib.blake2b(f"{platform.machine()} {flags}".encode(), digest_size=8).hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest of names and bytes of all files in a folder but `NOTES`; empty where it is none."""
    if not folder.is_dir():
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name not in NOTES):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _checksum(key: str, content: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + b"\0" + content, digest_size=CHECKSUM_BYTES).digest()

"""Taking from this process the right to read one folder: by the kernel where it can, by an audit hook everywhere.

Landlock knows no "deny": it takes a right everywhere and gives it back beneath listed folders. So reading is given
back beneath every neighbour of every folder on the way from `/` down to the forbidden one, and not beneath that one.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same number on every architecture
_PATH_BENEATH = 1
_READ_FILE, _REFER = 1 << 2, 1 << 13
_SET_NO_NEW_PRIVS = 38
_O_PATH = getattr(os, "O_PATH", 0)


@dataclass(frozen=True)
class Guards:
    """What keeps the folder closed. `landlock` also binds code outside Python and child processes.

    `other_threads` counts threads that ran before the call: Landlock does not bind those.
    """

    landlock: bool
    audit_hook: bool
    other_threads: int


_forbidden: set[str] = set()
_hooked = False


def forbid_reading(folder: Path) -> Guards:
    """Which guards keep this process, for the rest of its life, from reading files beneath `folder`.

    The rest of the file system stays open, with one exception of Landlock: what is created later directly in one of the
    folders that contain `folder` (its parent, the parent's parent, ...) can be written but not read by this process.
    Create result folders before the call. Names can still be listed; files cannot be opened, linked or moved out.
    A file opened before stays open. Calling it again is harmless; a second folder is forbidden as well.
    """
    real = Path(os.path.realpath(folder))
    already = str(real) in _forbidden
    _install_hook(str(real))
    return Guards(
        landlock=_landlocked.get(str(real), False) if already else _restrict(real),
        audit_hook=True,
        other_threads=_other_threads(),
    )


# ---------------------------------------------------------------------------------------------- audit hook

_WATCHED = {"open": (0,), "os.rename": (0, 1), "os.link": (0, 1), "os.symlink": (0,), "os.truncate": (0,)}


def _install_hook(real: str) -> None:
    global _hooked
    _forbidden.add(real)
    if not _hooked:
        _hooked = True
        sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hooks cannot be removed: once installed, this watches until the process ends."""
    for position in _WATCHED.get(event, ()):
        path = arguments[position]
        if not isinstance(path, (str, bytes, os.PathLike)):
            continue
        real = os.path.realpath(os.fsdecode(path))
        for folder in _forbidden:
            if real == folder or real.startswith(folder + os.sep):
                raise PermissionError(f"{real}: sealed, this process may not open it (wmplan.sealed.forbid)")


# ------------------------------------------------------------------------------------------------ Landlock

_landlocked: dict[str, bool] = {}


def _restrict(folder: Path) -> bool:
    """Whether the kernel now denies reading beneath `folder` to this thread and its children."""
    _landlocked[str(folder)] = done = sys.platform == "linux" and _restrict_linux(folder)
    return done


def _restrict_linux(folder: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    # Without REFER among the handled rights, Landlock would deny every rename between folders. It is given back for
    # all of `/`: moving a file to where it could be read stays denied, because that would add a right.
    refer = _REFER if abi >= 2 else 0
    rights = struct.pack("<Q", _READ_FILE | refer)
    ruleset = libc.syscall(_CREATE_RULESET, rights, ctypes.c_size_t(len(rights)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for path in _neighbours(folder):
            _allow(libc, ruleset, path, _READ_FILE)
        if refer:
            _allow(libc, ruleset, "/", refer)
        if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def _neighbours(folder: Path) -> list[str]:
    """Everything beside the folders on the way from `/` to `folder`; together with them, the whole file system.

    Symbolic links are left out: what they point to has its own place, and a link to a folder on the way would open it.
    """
    found = []
    for parent in reversed(folder.parents):
        towards = folder.relative_to(parent).parts[0]
        try:
            names = os.listdir(parent)
        except OSError:
            continue
        found += [os.path.join(parent, name) for name in names if name != towards]
    return [path for path in found if not os.path.islink(path)]


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, right: int) -> None:
    """Give back a right beneath `path`; a path that cannot be opened stays closed."""
    try:
        handle = os.open(path, _O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if not stat.S_ISLNK(os.fstat(handle).st_mode):
            rule = struct.pack("<Qi", right, handle)  # packed in the kernel's header too
            libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, rule, ctypes.c_uint32(0))
    finally:
        os.close(handle)


def _other_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except OSError:
        return 0

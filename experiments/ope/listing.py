"""The scenes of a run: which there are, and one at a time with what followed it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from experiments.ope.settings import Listed, OpeCommand
from wmplan.errors import InputError
from wmplan.randomness import fold_in
from wmplan.scene import Future, Scene
from wmplan.sealed import SealedFutures
from wmplan.store import SceneStore
from wmplan.windows import WindowConfig, cut

SIMULATOR, HIGHWAY = "simulator", "highway"


def is_simulated(command: OpeCommand) -> bool:
    """Whether the logs are simulated for this run."""
    return command.logs.startswith((SIMULATOR, HIGHWAY))


def is_highway(command: OpeCommand) -> bool:
    """Whether the road is highway-env's."""
    return command.logs.startswith(HIGHWAY)


def items_of(command: OpeCommand, seen: frozenset[str]) -> tuple[str, ...]:
    """Numbers of the simulated logs whose group no model was trained on.

    Raises:
        InputError: no such source, or no log that is left.
    """
    if is_highway(command):
        from experiments.ope.highway import Worlds

        return tuple(map(str, range(Worlds.parse(command.logs).n)))
    from wmplan.simulator.recording import LOGS_PER_MAP
    from wmplan.simulator.source import Source

    wanted = Source.parse(command.logs)
    logs = [i for i in range(wanted.n) if f"sim-{wanted.map}-{wanted.seed}-map{i // LOGS_PER_MAP}" not in seen]
    if not logs:
        raise InputError(f"{command.logs}: no logs that the models were not trained on, expected one or more")
    return tuple(map(str, logs))


def of_store(command: OpeCommand, seen: frozenset[str]) -> tuple[tuple[Listed, ...], str]:
    """Scenes of a store whose group no model was trained on, and the store's digest.

    Raises:
        InputError: no store, or no scene that is left.
    """
    store = SceneStore.open(Path(command.logs))
    index = store.index()
    chosen = index[~index["group"].isin(seen)]
    if command.split:
        chosen = chosen[chosen["split"] == command.split]
    if not len(chosen):
        raise InputError(
            f"{command.logs}: no scenes of split {command.split or 'any'!r} that the models were not trained on, "
            "expected one or more"
        )
    listed = tuple(Listed(str(i), str(g), str(i)) for i, g in zip(chosen["scene_id"], chosen["group"]))
    return listed, f"{store.digest}/{store.manifest.sealed_digest}"


def some(listed: tuple[Listed, ...], most: int) -> tuple[Listed, ...]:
    """At most so many of them (0: all), a fixed random choice, in the given order."""
    if not most or most >= len(listed):
        return listed
    kept = set(sorted((one.scene_id for one in listed), key=lambda name: fold_in(0, "chosen for ope", name))[:most])
    return tuple(one for one in listed if one.scene_id in kept)


def indexing(command: OpeCommand) -> Callable[[str], list[Listed]]:
    """What a process does: from the number of a simulated log to its scenes."""
    from experiments.assembly import use_compilation_cache

    use_compilation_cache(Path(command.cache).resolve() if command.cache else None)
    return lambda item: [Listed(one.scene_id, one.group, item) for one, _ in _of_log(command, item).values()]


def loaded(command: OpeCommand, listed: Listed) -> tuple[Scene, Future]:
    """A scene with what followed it; scenes of one log after each other cost one log."""
    if is_simulated(command):
        return _of_log(command, listed.item)[listed.scene_id]
    return SceneStore.open(Path(command.logs)).scene(listed.scene_id), _futures(command.logs).future(listed.scene_id)


@lru_cache(maxsize=2)
def _of_log(command: OpeCommand, item: str) -> dict[str, tuple[Scene, Future]]:
    if is_highway(command):
        from experiments.ope.highway import moment_of

        scene, future = moment_of(command.logs, int(item))
        return {scene.scene_id: (scene, future)}
    from wmplan.simulator.reader import log
    from wmplan.simulator.source import Source

    made = log(Source.parse(command.logs), int(item))
    return {scene.scene_id: (scene, future) for scene, future in cut(made, _windows(command))}


@lru_cache(maxsize=2)
def _futures(path: str) -> SealedFutures:
    return SealedFutures.open(Path(path))


def _windows(command: OpeCommand) -> WindowConfig:
    """Where logs have propensities there is one scene a log, at the step at which a driver is drawn anew."""
    from experiments.simulate import WINDOWS
    from wmplan.simulator.recording import EXPLORE
    from wmplan.simulator.source import Source

    explored = Source.parse(command.logs).behaviour == EXPLORE
    return WindowConfig(stride_s=command.stride_s) if explored else WINDOWS

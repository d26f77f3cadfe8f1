"""What to simulate, as words: the source of logs, and what the id of a log says of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from wmplan.errors import InputError
from wmplan.simulator import maps
from wmplan.simulator.policies.mixture import named
from wmplan.simulator.recording import CHUNK, EXPLORE, Chunk, simulate

PREFIX = "simulator:"


@dataclass(frozen=True)
class Source:
    """What to simulate."""

    n: int = 200
    """number of logs"""
    seed: int = 0
    """log i of a seed is always the same"""
    map: str = "mixed"
    """straight, merge, crossing, t_junction, roundabout, or mixed: each as often, by chance"""
    behaviour: str = EXPLORE
    """how the ego drives: explore (varied, without propensities), mixture (noisy drivers, with propensities; drawn anew
    at t0), mixture_per_log (one for a whole log), or a policy of graded skill that is not learned, such as
    idm_normal"""

    def __post_init__(self) -> None:
        if self.map not in (*maps.MAPS, "mixed"):
            raise InputError(f"map is {self.map!r}, expected {', '.join(maps.MAPS)} or mixed")
        if self.behaviour != EXPLORE:
            named(self.behaviour)

    @staticmethod
    def parse(text: str) -> Source:
        """The source written as `simulator:n=200,seed=0,map=mixed`; every field may be left out.

        Raises:
            InputError: an unknown field or a value that cannot be.
        """
        body = text.removeprefix(PREFIX.rstrip(":")).removeprefix(":")
        known = {f.name for f in fields(Source)}
        values: dict[str, str] = {}
        for part in filter(None, (p.strip() for p in body.split(","))):
            name, _, value = part.partition("=")
            if name not in known:
                raise InputError(f"{text}: field {name!r}, expected one of {', '.join(sorted(known))}")
            values[name] = value
        numbers = {}
        for name in ("n", "seed"):
            value = values.pop(name, str(getattr(Source, name)))
            if not value.isdecimal():
                raise InputError(f"{text}: {name} is {value!r}, expected a whole number of 0 or more")
            numbers[name] = int(value)
        try:
            return Source(
                numbers["n"], numbers["seed"], values.get("map", Source.map), values.get("behaviour", EXPLORE)
            )
        except InputError as error:
            raise InputError(f"{text}: {error}") from error

    def world(self, index: int) -> tuple[Chunk, int]:
        """The chunk that the world of a log is in, and its row there."""
        return simulate(self.map, self.behaviour, self.seed, index // CHUNK), index % CHUNK

    def log_id(self, index: int) -> str:
        """The id of the log of this number: `sim-mixed-0-12`, `sim-mixed.mixture-0-12`."""
        how = "" if self.behaviour == EXPLORE else f".{self.behaviour}"
        return f"sim-{self.map}{how}-{self.seed}-{index}"

    @staticmethod
    def of_log(log_id: str) -> tuple[Source, int]:
        """The source of a log, and the log's number.

        Raises:
            InputError: not the id of a simulated log.
        """
        parts = log_id.rsplit("-", 2)
        if not log_id.startswith("sim-") or len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            raise InputError(f"log {log_id}: expected the id of a simulated log, sim-MAP[.BEHAVIOUR]-SEED-NUMBER")
        kind, _, behaviour = parts[0].removeprefix("sim-").partition(".")
        index = int(parts[2])
        try:
            return Source(index + 1, int(parts[1]), kind, behaviour or EXPLORE), index
        except InputError as error:
            raise InputError(f"log {log_id}: {error}") from error

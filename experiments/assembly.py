"""Names in a config to the things that they mean: model, critics, optimizers, baselines, cache. The one place of it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import SHIPPED
from wmplan.contracts import IMAGINED_STEP_S, Optimizer, Policy, WorldModel
from wmplan.errors import InputError
from wmplan.plans import Plans, Start
from wmplan.risk import AVERAGED, RiskConfig
from wmplan.scene import STEP_S, Scene

if TYPE_CHECKING:
    from critics.composite import Composite, CostWeights
    from experiments.study import StudyConfig
    from rollout_cache import NoCache, TermsCache
    from wmplan.models.model_card import Card
    from wmplan.models.precision import Precision

Planner = Optimizer | Policy


def model_spec(name: str) -> str:
    """What `wmplan.models.load_model` takes for this name: a registered name, the folder of a checkpoint, or several.

    Raises:
        InputError: neither a registered name, nor a shipped checkpoint, nor a folder.
    """
    from wmplan.models import ENSEMBLE, MODELS, members_of

    if name in MODELS:
        return name
    if members := members_of(name):
        return ENSEMBLE + ",".join(map(model_spec, members))
    for folder in (SHIPPED / name, Path(name)):
        if folder.is_dir() and name:
            return str(folder.resolve())
    shipped = sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())
    known = ", ".join([*shipped, *sorted(MODELS)])
    raise InputError(f"model: {name!r} is not known, expected one of {known} or a folder that wmplan train wrote")


def build_model(spec: str, horizon_s: float, precision: Precision = "float32") -> WorldModel:
    """The world model, able to imagine this far.

    Raises:
        InputError: no readable checkpoint there, or one that cannot imagine so far.
    """
    from wmplan.models import load_model

    steps = round(horizon_s / IMAGINED_STEP_S)
    model = load_model(spec, horizon=steps, precision=precision)
    if model.horizon < steps:
        raise InputError(
            f"model {spec}: imagines {model.horizon * IMAGINED_STEP_S:g} s, horizon_s={horizon_s:g} was asked for"
        )
    return model


def build_composite(spec: str, horizon_s: float, weights: CostWeights, risk: RiskConfig = AVERAGED) -> Composite:
    """All critics of the model: with support and probe where they were fitted beside it, which they are not beside a
    baseline or an ensemble.

    Raises:
        InputError: a checkpoint without its fitted critics, or with damaged ones.
    """
    from critics import Composite, TaskConfig, TaskCritic, VistaConfig, VistaCritic, default_critics
    from wmplan.models import MODELS, members_of

    task = TaskConfig(horizon=round(horizon_s / IMAGINED_STEP_S), risk=risk)
    members = members_of(spec)
    if spec in MODELS or members:
        return Composite([TaskCritic(task), VistaCritic(VistaConfig(members=max(len(members), 1)))], weights)
    return default_critics(Path(spec), weights, task)


def build_planners(config: StudyConfig) -> dict[str, Planner]:
    """Optimizers and baselines by name."""
    known, steps = baselines(), round(config.horizon_s / STEP_S)
    return {
        **{name: build_optimizer(name, config) for name in config.optimizers},
        **{name: _Shortened(name, known[name], steps) for name in config.baselines},
    }


def build_optimizer(name: str, config: StudyConfig) -> Optimizer:
    """The optimizer with the study's budget and horizon and its own `settings`.

    Raises:
        InputError: a setting that it does not have, or a value that it refuses.
    """
    from optimizers import OPTIMIZERS, make

    kind = OPTIMIZERS[name].config
    values: dict[str, Any] = {"budget": config.candidates, "horizon_steps": round(config.horizon_s / STEP_S)}
    values |= _settings(name, kind, config.settings)
    try:
        return make(name, kind(**values))
    except ValueError as error:
        raise InputError(f"optimizer {name}: {error}") from error


def baselines() -> dict[str, Policy]:
    """Policies without an optimizer, by name."""
    from wmplan.policies import POLICIES

    return dict(POLICIES)


@dataclass
class _Shortened:
    """A policy whose plan is cut to the study's horizon."""

    name: str
    policy: Policy
    steps: int

    def plan(self, scene: Scene, start: Start, key: int) -> Plans:
        """The policy's plan, no longer than the horizon."""
        plans = self.policy.plan(scene, start, key)
        return Plans(plans.controls[:, : self.steps], plans.states[:, : self.steps + 1])


def check_planners(config: StudyConfig) -> None:
    """Raises InputError for optimizers, baselines or settings that do not exist."""
    from optimizers import OPTIMIZERS
    from wmplan.policies import PLAN_STEPS

    for field, names, known in (
        ("optimizers", config.optimizers, sorted(OPTIMIZERS)),
        ("baselines", config.baselines, sorted(baselines())),
    ):
        for name in names:
            if name not in known:
                raise InputError(f"study: {field} holds {name!r}, expected some of {', '.join(known)}")
        if len(set(names)) != len(names):
            raise InputError(f"study: {field} is {list(names)}, expected each name once")
    if not config.optimizers and not config.baselines:
        raise InputError("study: no optimizers and no baselines, expected at least one")
    for setting in config.settings:
        owner = setting.split(".")[0]
        if owner not in config.optimizers:
            raise InputError(
                f"study: settings holds {setting!r}, expected <optimizer>.<field>=<value> of {config.optimizers}"
            )
    for name in config.optimizers:
        build_optimizer(name, config)
    if config.baselines and round(config.horizon_s / STEP_S) > PLAN_STEPS:
        raise InputError(
            f"study: horizon_s is {config.horizon_s:g}, baselines plan {PLAN_STEPS * STEP_S:g} s; "
            "expected a horizon no longer, or baselines=[]"
        )


@functools.cache
def terms_cache(folder: Path | None, max_bytes: int) -> TermsCache | NoCache:
    """The store of imagined terms in this folder, opened once a process; one that holds nothing where there is none."""
    from rollout_cache import open_cache

    return open_cache(None if folder is None else folder / "terms", max_bytes)


def use_compilation_cache(folder: Path | None) -> None:
    """Keep compiled planners between processes and runs. To be called before anything is compiled."""
    if folder is None:
        return
    import jax

    from experiments.kept import processor

    place = folder / "compiled" / processor()
    place.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def trained_groups(spec: str) -> frozenset[str]:
    """Groups of logs that the model was trained on, by its card; none for a baseline, all members' for an ensemble."""
    from wmplan.models import members_of

    if members := members_of(spec):
        return frozenset[str]().union(*map(trained_groups, members))
    card = _card(spec)
    return frozenset() if card is None else frozenset(card.groups)


def forecast_cleared(spec: str) -> bool | None:
    """Whether the model's forecast beats both baselines at every horizon on held-out scenes, by its card.

    Above constant velocity with the whole 95 % interval; None where the card has no such figures.
    """
    card = _card(spec)
    if card is None or not card.metrics:
        return None
    return all(row.gain_low > 0.0 and row.model > row.persistence for row in card.metrics)


def _card(spec: str) -> Card | None:
    from wmplan.models import MODELS, members_of
    from wmplan.models.checkpoint import read_card

    return None if spec in MODELS or members_of(spec) else read_card(Path(spec))


def _settings(name: str, kind: type, settings: tuple[str, ...]) -> dict[str, Any]:
    """This optimizer's fields among `cem.rounds=8`-like settings, as numbers where they are numbers."""
    known = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for setting in settings:
        owner, _, rest = setting.partition(".")
        field, sign, text = rest.partition("=")
        if owner != name:
            continue
        if field not in known or not sign:
            near = difflib.get_close_matches(field, known, n=1) or [", ".join(known)]
            raise InputError(f"study: settings holds {setting!r}, {name} has no such field, expected {near[0]}")
        try:
            values[field] = json.loads(text)
        except ValueError:
            values[field] = text
    return values

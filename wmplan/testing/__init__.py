"""Contract suites for your own classes, and small scenes to try them on.

Each `check_*` raises `AssertionError` naming the first rule that is broken. They run in this project's tests over
everything registered; call them in yours over a class that you add.
"""

from typing import TYPE_CHECKING, Any

from wmplan.testing.critics import check_critic
from wmplan.testing.readers import check_log, check_reader
from wmplan.testing.scenes import Body, some_plans, straight_road
from wmplan.testing.world_models import check_world_model

if TYPE_CHECKING:
    from wmplan.testing.optimizers import check_optimizer

__all__ = [
    "Body",
    "check_critic",
    "check_log",
    "check_optimizer",
    "check_reader",
    "check_world_model",
    "some_plans",
    "straight_road",
]


def __getattr__(name: str) -> Any:
    """`check_optimizer`, imported when asked for: it brings JAX along, which the others do not need."""
    if name == "check_optimizer":
        from wmplan.testing.optimizers import check_optimizer

        return check_optimizer
    raise AttributeError(f"module {__name__} has no attribute {name}")

"""Contract suites for your own classes, and small scenes to try them on.

Each `check_*` raises `AssertionError` naming the first rule that is broken. They run in this project's tests over
everything registered; call them in yours over a class that you add.
"""

from wmplan.testing.scenes import Body, some_plans, straight_road
from wmplan.testing.world_models import check_world_model

__all__ = ["Body", "check_world_model", "some_plans", "straight_road"]

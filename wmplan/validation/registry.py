"""Every layer that reads an `Evidence`: L1 to L3 and the diagnostics that need no counterfactual.

Not here, because they need more than what one scene shows of one model: the comparison with baselines
(`accuracy.summarise_against`), two-chunk drift (`drift`, which lets the model go on), the four hypotheses (`diagnosis`,
which compare models), the frame-rate preflight (`frame_rate`, which looks at no model), and L4.
"""

from __future__ import annotations

from typing import Any

from wmplan.contracts import Critic
from wmplan.validation import (
    accuracy,
    calibration,
    conditional,
    conservation,
    decision_relevant,
    diversity,
    feasibility,
    frontier,
    joint,
    kid,
    marginals,
    memorisation,
    motion,
    permanence,
)
from wmplan.validation.layers import Layer
from wmplan.validation.memorisation import Bank


def layers(critic: Critic, temperature: float | None = None, bank: Bank | None = None) -> tuple[Layer[Any], ...]:
    """The layers for one model: `critic` gives the verdicts that may flip, `temperature` and `bank` come from training
    scenes; without a bank nothing is said of memorisation, without a temperature calibration is only measured before.
    """
    found: list[Layer[Any]] = [
        accuracy.LAYER,
        calibration.layer(temperature),
        kid.LAYER,
        decision_relevant.layer(critic),
        marginals.LAYER,
        joint.LAYER,
        conditional.LAYER,
        permanence.LAYER,
        feasibility.LAYER,
        conservation.LAYER,
        motion.LAYER,
        diversity.LAYER,
        frontier.layer(1.0 if temperature is None else temperature),
    ]
    return tuple([*found, memorisation.layer(bank)] if bank is not None else found)

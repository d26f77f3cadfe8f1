"""Policies of graded skill that drive the ego in closed loop: pure functions, hundreds of drives in one compiled loop.

`graded.graded()` names them all, `episodes.play` drives, `worth.true_value` says what one is worth, `training.train`
makes new ones by PPO.
"""

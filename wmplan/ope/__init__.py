"""What a policy is worth, from logs that others drove: estimators, how far the logs speak for it, and when to refuse.

`trajectories.Trajectories` is what is known, `estimates.evaluate` runs every estimator, `docs/ope.md` says what each
one assumes.
"""

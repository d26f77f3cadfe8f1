"""Critics turn imagined futures into named terms, and the terms into one cost with a verdict: task terms, Vista's
reward, the inverse-control probe and the support density."""

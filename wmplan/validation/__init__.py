"""The instrument: what a world model knows, in layers L1 to L4, each beside its baselines and its ceiling."""

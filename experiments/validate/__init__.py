"""`wmplan validate`: the layers L1 to L4 of a world model beside its baselines: tables, plots, a page and one JSON."""

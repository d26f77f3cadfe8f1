"""Optimizers propose candidate plans by ask and tell: CEM, MPPI, a Frenet lattice, a fixed pool."""

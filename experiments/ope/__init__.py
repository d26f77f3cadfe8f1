"""Policies closed-loop, on the road and inside a world model: what each is worth by the same judge, scene by scene."""

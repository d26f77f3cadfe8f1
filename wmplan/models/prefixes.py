"""Candidates as a tree: what several have in common up to an imagined step is one node, and is imagined once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int
from numpy import ndarray


@dataclass(frozen=True)
class PrefixTree:
    """K candidates over T imagined steps. The nodes of each step are numbered in the order of their first candidate.

    `nodes[k, t]` is the node that candidate k stands at after imagined step t + 1. For each step, `leaders` names the
    first candidate of every node and `parents` the node of the step before (0, the scene itself, at the first step).
    """

    nodes: Int[ndarray, "K T"]
    leaders: tuple[Int[ndarray, "_N"], ...]
    parents: tuple[Int[ndarray, "_N"], ...]

    @property
    def steps(self) -> int:
        """Steps to imagine for one sample; without sharing it would be K x T."""
        return sum(map(len, self.leaders))


def prefix_tree(states: Float32[ndarray, "K steps 4"]) -> PrefixTree:
    """The tree of candidates by their states at t0 and after each imagined step, all finite.

    Those states are all that a model reads of a plan: candidates whose states have equal bytes up to a step have equal
    futures up to that step, whatever comes after. Plans round their controls, so equal actions give equal bytes.
    """
    count, steps = states.shape[0], states.shape[1] - 1
    node = _numbered(np.ascontiguousarray(states[:, 0]))
    nodes, leaders, parents = np.empty((count, steps), dtype=np.int64), [], []
    for t in range(steps):
        above = node if t else np.zeros(count, dtype=np.int64)
        # Exact as bytes: a node is its parent and where the ego is at the step's end.
        node = _numbered(np.concatenate([node[:, None].astype("<i4").view("<f4"), states[:, t + 1]], axis=1))
        first = np.unique(node, return_index=True)[1]
        nodes[:, t] = node
        leaders.append(first)
        parents.append(above[first])
    return PrefixTree(nodes, tuple(leaders), tuple(parents))


def prefix_order(states: Float32[ndarray, "K steps 4"]) -> Int[ndarray, "K"]:
    """An order of the candidates in which those that share a prefix stand side by side, in the order of their first.

    Cut anywhere, such an order loses the shared steps of at most one path from the root.
    """
    return np.lexsort(prefix_tree(states).nodes.T[::-1])


def _numbered(rows: Float32[ndarray, "K N"]) -> Int[ndarray, "K"]:
    """Which distinct row each row is, by bytes, counted in the order of first appearance."""
    raw = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    _, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]

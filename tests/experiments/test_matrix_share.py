"""The share of matrix products in a computation, where it is known."""

from __future__ import annotations

import time

import torch

from experiments.bench.matrix_share import matrix_share


def test_operations_are_counted_and_other_work_lowers_the_share():
    left, right = torch.randn(300, 200), torch.randn(400, 200)

    def products() -> torch.Tensor:
        return torch.nn.functional.linear(left, right)

    def mixed() -> torch.Tensor:
        out = products()
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            out = out + 1.0
        return out

    pure, diluted = matrix_share(products, 20), matrix_share(mixed, 3)
    assert pure.gflop == diluted.gflop == 2 * 300 * 200 * 400 / 1e9
    assert 0.3 < pure.ratio < 1.5
    assert diluted.ratio < 0.25

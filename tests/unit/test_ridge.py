"""Probabilities from a few hundred rows: right where there is something to learn, humble else."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.router.labels import ridge


def probabilities(x: ridge.F64, weights: ridge.F64) -> ridge.F64:
    logits: ridge.F64 = x @ weights[:-1] + weights[-1]
    return 1 / (1 + np.exp(-logits))


def drawn(rows: int = 400, features: int = 50, seed: int = 0) -> tuple[ridge.F64, ridge.F64]:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (rows, features))
    p = 1 / (1 + np.exp(-(x[:, 0] - 3)))
    return x, (rng.random(rows) < p).astype(float)


def test_what_can_be_learnt_is_and_the_probabilities_mean_what_they_say() -> None:
    x, y = drawn(1200)
    p = probabilities(x[:800], ridge.fit(x[400:], [y[400:]]))[:400, 0]
    held = y[:400]
    order = p[:, None] - p[None, :]
    apart = np.outer(held == 1, held == 0)
    assert (order[apart] > 0).mean() > 0.75
    for low, high in ((0.0, 0.4), (0.4, 0.6), (0.6, 1.0)):
        among = (p >= low) & (p < high)
        assert held[among].mean() == pytest.approx(p[among].mean(), abs=0.12)


def test_of_chance_it_learns_next_to_nothing() -> None:
    x, _ = drawn()
    y = np.random.default_rng(1).integers(0, 2, len(x)).astype(float)
    p = probabilities(x, ridge.fit(x, [y]))
    assert np.abs(p - y.mean()).max() < 0.2


def test_the_left_out_predictions_are_those_of_fits_without_the_row() -> None:
    x, y = drawn(60, 8)
    z = (x - x.mean(0)) / x.std(0)
    squares, axes = np.linalg.eigh(z.T @ z)
    _, left_out = ridge._best(squares, z @ axes, y)
    at = 7
    others = np.arange(60) != at
    errors = []
    for penalty in ridge._PENALTIES:
        # The intercept is free, the centre that of all rows, as in the closed form.
        design = np.column_stack([z[others], np.ones(59)])
        damped = design.T @ design + penalty * np.diag([1.0] * 8 + [0.0])
        weights = np.linalg.solve(damped, design.T @ y[others])
        errors.append(abs(float(z[at] @ weights[:-1] + weights[-1]) - left_out[at]))
    assert min(errors) < 1e-9


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_are_alike_it_says_so_without_being_certain(value: float) -> None:
    x, y = drawn()
    p = probabilities(x, ridge.fit(x, [np.full_like(y, value)]))
    assert np.ptp(p) == pytest.approx(0)
    assert 0 < p[0, 0] < 1
    assert abs(p[0, 0] - value) < 0.01


def test_a_column_that_never_varies_is_not_listened_to() -> None:
    x, y = drawn()
    x[:, 3] = 7.0
    assert ridge.fit(x, [y])[3, 0] == 0


def test_several_targets_are_fitted_as_each_alone() -> None:
    x, y = drawn()
    both = ridge.fit(x, [y, 1 - y])
    assert np.allclose(both[:, :1], ridge.fit(x, [y]))
    assert both[:, 1] == pytest.approx(-both[:, 0], abs=1e-6)

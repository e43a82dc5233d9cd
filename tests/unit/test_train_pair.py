"""What is learnt of a pair needs no scikit-learn, and is what scikit-learn would learn."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from isthmus.router.learned.pair import Pair
from isthmus.router.learned.router_file import load, shipped
from isthmus.router.learned.train import rows_of
from isthmus.router.learned.train_pair import fit_pair, logistic

LABELS = [
    {
        "prompt": f"Say hello to guest {i}" if i % 2 else f"What is {i} times {i + 3}?",
        "source": "ab"[i // 2 % 2],
        "weak_correct": i % 2,
        "strong_correct": 1,
    }
    for i in range(80)
]


@pytest.mark.parametrize(("rows", "columns"), [(200, 10), (60, 90)])
@pytest.mark.parametrize("strength", [0.003, 0.1, 10.0])
def test_the_logistic_line_is_scikit_learns(rows: int, columns: int, strength: float) -> None:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, columns))
    y = (rng.random(rows) < 1 / (1 + np.exp(0.5 - 2 * x[:, 0]))).astype(float)
    theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-9).fit(x, y)
    ours = logistic(x, y, strength)
    np.testing.assert_allclose(ours[:-1], theirs.coef_[0], atol=1e-4)
    assert ours[-1] == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_rows_that_a_line_parts_end_with_finite_weights() -> None:
    x = np.linspace(-1, 1, 20)[:, None] * 100
    weights = logistic(x, (x[:, 0] > 0).astype(float), 1000.0)
    assert np.isfinite(weights).all()
    assert weights[0] > 0


def test_a_pair_is_learnt_where_scikit_learn_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [*sys.modules, "sklearn", "scipy"]:
        if name.split(".")[0] in {"sklearn", "scipy"}:
            monkeypatch.setitem(sys.modules, name, None)
    pair = Pair("e" * 64, "big")
    known = fit_pair(shipped().general, rows_of(LABELS), pair)
    path = tmp_path / "mine.router"
    replace(shipped(), calibrations=(known,)).save(path)
    assert load(path).calibration(pair) is not None
    assert known.provenance["apgr_new_questions"]["apgr"] > 0.7

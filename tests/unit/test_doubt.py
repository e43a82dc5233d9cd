"""The second look: a head for one build, fitted only where it helps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from isthmus.core.errors import InvalidRequest
from isthmus.core.events import FirstToken
from isthmus.router.doubt import second_look as doubt
from isthmus.router.doubt.second_look import FEATURES, Build, SecondLook
from isthmus.router.doubt.second_look_fit import Labelled, fit
from isthmus.router.learned.section import Section

BUILD = Build("ab" * 32, "Q4_1")
FIRST = FirstToken(margin=1.0, entropy=2.0, logprob=-0.5, hidden=(1.0, -1.0))


def head(**fields: object) -> SecondLook:
    weights = np.array([1, 0.5, -0.25, 0], np.float32)
    made = SecondLook(BUILD, 0.1, weights, np.zeros(0, np.float32), 300)
    return replace(made, **fields)  # type: ignore[arg-type]


def labelled(
    rows: int = 600, *, first_helps: float = 0.0, hidden_helps: float = 0.0, kinds: int = 8
) -> list[Labelled]:
    """Questions whose prior is right about the odds; the rest helps as much as is said."""
    rng = np.random.default_rng(0)
    made = []
    for at in range(rows):
        prior, entropy = rng.uniform(0.2, 0.8), rng.normal()
        hidden = rng.normal(size=16)
        odds = math.log(prior / (1 - prior)) - first_helps * entropy + hidden_helps * hidden[3]
        first = FirstToken(
            float(rng.exponential()), entropy + 3, float(-rng.exponential()), tuple(hidden)
        )
        good = bool(rng.random() < 1 / (1 + math.exp(-odds)))
        made.append(Labelled(first, (prior,), good, f"kind{at % kinds}"))
    return made


def test_the_estimate_is_the_logistic_of_what_was_seen() -> None:
    odds = 0.1 + 0 + 0.5 * 1.0 - 0.25 * 2.0
    assert head().rate(FIRST, prior=0.5) == pytest.approx(1 / (1 + math.exp(-odds)))
    assert head().rate(FIRST, prior=0.9) > head().rate(FIRST, prior=0.5)


def test_the_hidden_state_costs_a_dot_product() -> None:
    looks = head(hidden_weights=np.array([2, 1], np.float32))
    odds = 0.1 + 0.5 - 0.5 + 2.0 - 1.0
    assert looks.rate(FIRST, prior=0.5) == pytest.approx(1 / (1 + math.exp(-odds)))


def test_a_hidden_state_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="has 2 values, the head reads 3"):
        head(hidden_weights=np.ones(3, np.float32)).rate(FIRST, prior=0.5)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_certainty_of_the_first_look_stays_a_probability(prior: float) -> None:
    huge = head(weights=np.full(len(FEATURES), 1e6, np.float32))
    assert 0 <= huge.rate(FIRST, prior=prior) <= 1


def test_another_build_of_the_same_model_gets_no_head() -> None:
    section = doubt.section([head(), head(build=Build("cd" * 32, "Q8_0"))], {})
    found = SecondLook.of(section, BUILD)
    assert found is not None
    assert found.rate(FIRST, prior=0.3) == head().rate(FIRST, prior=0.3)
    assert SecondLook.of(section, Build(BUILD.sha256)) is not None
    assert SecondLook.of(section, replace(BUILD, sha256="ef" * 32)) is None
    assert SecondLook.of(None, BUILD) is None
    assert [look.build.quantization for look in doubt.looks(section)] == ["Q4_1", "Q8_0"]


@pytest.mark.parametrize(
    "says",
    [{}, {"builds": [{"sha256": BUILD.sha256, "quantization": "Q4_1"}]}, {"builds": [3]}],
)
def test_a_section_without_sense_is_refused(says: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="second look"):
        SecondLook.of(Section(says), BUILD)


def test_beside_a_cloud_that_is_known_a_first_token_that_tells_orders_what_to_send() -> None:
    rows = [replace(row, cloud=1.0) for row in labelled(first_helps=2.0)]
    figures = fit(BUILD, rows).figures
    assert figures["first_token"]["apgr"] > figures["prior"]["apgr"] + 0.05 > 0.55


def test_a_first_token_that_tells_is_learnt_from() -> None:
    fitted = fit(BUILD, labelled(first_helps=2.0))
    assert fitted.figures["chosen"] == "first_token"
    assert fitted.figures["first_token"]["auroc"] > fitted.figures["prior"]["auroc"] + 0.1
    assert "apgr" not in fitted.figures["prior"]  # nobody knows what the cloud would have answered
    assert fitted.look is not None
    assert not fitted.look.hidden_weights.size
    sure, unsure = (replace(FIRST, entropy=entropy) for entropy in (1.0, 5.0))
    assert fitted.look.rate(sure, prior=0.5) > 0.8
    assert fitted.look.rate(unsure, prior=0.5) < 0.2
    assert fitted.look.questions == 600


def test_a_first_look_that_does_not_know_the_kind_makes_room_for_a_second() -> None:
    rows = labelled(first_helps=0.5)
    known = fit(BUILD, rows).figures
    unknown = fit(BUILD, [replace(row, priors=(*row.priors, 0.5)) for row in rows]).figures
    assert unknown["questions"] == known["questions"] == 600
    assert unknown["prior"]["log_loss"] > known["prior"]["log_loss"]


def test_a_hidden_state_that_tells_is_learnt_from() -> None:
    fitted = fit(BUILD, labelled(hidden_helps=3.0))
    assert fitted.figures["chosen"] == "hidden"
    assert fitted.look is not None
    assert int(np.abs(fitted.look.hidden_weights).argmax()) == 3


def test_a_first_look_that_is_wrong_is_not_turned_round() -> None:
    rows = [replace(row, priors=(1 - row.priors[0],)) for row in labelled(first_helps=2.0)]
    fitted = fit(BUILD, rows)
    assert fitted.look is not None
    assert fitted.look.weights[0] == 0
    assert fitted.figures["prior"]["auroc"] == pytest.approx(0.5, abs=0.06)


def test_where_nothing_beats_the_first_look_there_is_no_second() -> None:
    fitted = fit(BUILD, labelled())
    assert fitted.look is None
    assert fitted.figures["chosen"] == "prior"
    assert fitted.figures["kinds"] == 8


@pytest.mark.parametrize("rows", [labelled(50), labelled(kinds=2), []])
def test_too_little_teaches_nothing(rows: list[Labelled]) -> None:
    with pytest.raises(InvalidRequest, match="learnt from 100 questions"):
        fit(BUILD, rows)

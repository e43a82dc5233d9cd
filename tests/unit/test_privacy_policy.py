"""Deciding by label: the strictest wins, a request may be stricter, never looser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.errors import ConfigError, InvalidRequest
from isthmus.privacy.base import Label
from isthmus.privacy.policy import PACKS, PRESETS, Action, Policy, PrivacyConfig

LABELS = [*(label.value for label in Label), "EMPLOYEE_NUMBER"]
ORDER = list(Action)
policies = st.builds(
    lambda preset, labels, packs: PrivacyConfig(preset, labels, tuple(packs)).policy,
    st.sampled_from(list(PRESETS)),
    st.dictionaries(st.sampled_from(LABELS), st.sampled_from(ORDER), max_size=4),
    st.sets(st.sampled_from(list(PACKS))),
)


@pytest.mark.parametrize(
    "label",
    [
        "SECRET",
        "ID_CN",
        "US_SSN",
        "NATIONAL_ID",
        "PASSPORT",
        "DRIVER_LICENSE",
        "BANK_CARD",
        "IBAN",
        "MEDICAL",
    ],
)
def test_secrets_identity_money_and_health_stay_by_default(label: str) -> None:
    verdict = PrivacyConfig().policy.judge({label, "EMAIL"})
    assert (verdict.action, verdict.forbidding) == (Action.LOCAL_ONLY, {label})


def test_other_values_are_redacted_by_default_and_places_are_not() -> None:
    policy = PrivacyConfig().policy
    assert policy.judge({"PERSON", "LOCATION"}).action is Action.REDACT
    assert policy.judge({"EMPLOYEE_NUMBER"}).action is Action.REDACT
    assert policy.judge({"LOCATION", "ORG"}).action is Action.ALLOW
    assert policy.judge(()).action is Action.ALLOW


@pytest.mark.parametrize("label", LABELS)
def test_presets_are_ordered(label: str) -> None:
    ranks = [ORDER.index(Policy(preset).action(label)) for preset in PRESETS]
    assert ranks == sorted(ranks)


@given(policies, st.sets(st.sampled_from(LABELS)), st.sampled_from(LABELS))
def test_one_more_label_never_makes_a_verdict_milder(
    policy: Policy, found: set[str], more: str
) -> None:
    before, after = policy.judge(found), policy.judge(found | {more})
    assert ORDER.index(before.action) <= ORDER.index(after.action)


@given(
    policies,
    st.dictionaries(st.sampled_from(["preset", *LABELS]), st.sampled_from([*ORDER, *PRESETS])),
    st.sampled_from(LABELS),
)
def test_no_wish_of_a_request_is_looser_than_the_settings(
    policy: Policy, wishes: dict[str, str], label: str
) -> None:
    try:
        wished = policy.stricter(wishes)
    except InvalidRequest:
        return
    assert ORDER.index(wished.action(label)) >= ORDER.index(policy.action(label))
    if label in wishes:
        assert ORDER.index(wished.action(label)) >= ORDER.index(Action(wishes[label]))


def test_a_looser_wish_is_refused_by_its_name() -> None:
    policy = PrivacyConfig(labels={"EMAIL": Action.LOCAL_ONLY}).policy
    with pytest.raises(InvalidRequest, match="EMAIL"):
        policy.stricter({"EMAIL": "redact"})
    with pytest.raises(InvalidRequest, match="looser"):
        policy.stricter({"preset": "open"})
    with pytest.raises(InvalidRequest) as strange:
        policy.stricter({"jane@example.org": "redact"})
    assert "jane" not in strange.value.message


@pytest.mark.parametrize(
    ("pack", "label"), [(pack, label) for pack in PACKS for label in ("PERSON", "EMAIL", "MEDICAL")]
)
def test_a_regions_rules_hold_whatever_else_is_set(pack: str, label: str) -> None:
    policy = PrivacyConfig("open", {label: Action.ALLOW}, (pack,)).policy
    assert policy.action(label) is PACKS[pack][label]


def test_what_nobody_can_see_keeps_the_request_here_where_a_rule_speaks_of_it() -> None:
    blind = {"PERSON", "LOCATION"}
    assert PrivacyConfig().policy.judge((), blind).action is Action.ALLOW
    named = PrivacyConfig(labels={"PERSON": Action.LOCAL_ONLY}).policy.judge((), blind)
    assert (named.action, named.unseen) == (Action.LOCAL_ONLY, {"PERSON"})
    assert PrivacyConfig(packs=("eu",)).policy.judge((), blind).action is Action.LOCAL_ONLY
    assert PrivacyConfig("strict").policy.judge((), blind).action is Action.LOCAL_ONLY


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"preset": "lax"}, "privacy.preset"),
        ({"packs": ("mars",)}, "privacy.packs"),
        ({"labels": {"EMAIL": "never"}}, "privacy.labels.EMAIL"),
        ({"labels": {"e-mail": "allow"}}, "privacy.labels"),
        ({"vault_ttl_s": 0}, "privacy.vault_ttl_s"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PrivacyConfig(**wrong)  # type: ignore[arg-type]
    assert refused.value.field == field

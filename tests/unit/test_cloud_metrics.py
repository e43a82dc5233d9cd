"""What the gateway's registry tells beside what it counts."""

from __future__ import annotations

from isthmus.cloud.admission import Admission
from isthmus.cloud.ledger.quotas import QuotaConfig
from isthmus.cloud.metrics import Metrics
from isthmus.core.tier import ModelInfo


def test_a_tenants_budget_stands_beside_what_it_spent() -> None:
    metrics = Metrics()
    common, own = {"usd_per_month": "100"}, {"tenant": {"usd_per_day": "5"}}
    metrics.ledger.keep_to(QuotaConfig.model_validate({"tenant": common, "tenants": {"acme": own}}))
    metrics.ledger.settled("acme", 7)
    metrics.ledger.settled("other", 7)
    told = {
        (sample.labels["tenant"], sample.labels["period"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "isthmus_cloud_budget_usd"
    }
    assert told == {("acme", "day"): 5, ("acme", "month"): 100, ("other", "month"): 100}


async def test_how_full_the_gateway_is_can_be_told() -> None:
    metrics = Metrics()
    admission = Admission(max_running=2, max_waiting=3)
    metrics.watch_queue(admission)
    value = metrics.registry.get_sample_value
    async with admission.slot():
        assert value("isthmus_cloud_requests_in_flight") == 1
    assert value("isthmus_cloud_requests_in_flight_limit") == 2
    assert value("isthmus_cloud_queue_length_limit") == 3


def test_series_are_there_before_the_first_request() -> None:
    metrics = Metrics()
    metrics.serves(ModelInfo("big", "vllm"))
    of = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "isthmus.cloud",
        "gen_ai_request_model": "big",
    }
    count = "gen_ai_server_time_to_first_token_seconds_count"
    assert metrics.registry.get_sample_value(count, of) == 0

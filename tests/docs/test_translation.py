"""A translation has the sections, blocks, figures, code and links of the original, and its age."""

from __future__ import annotations

import pytest
from documents.translated import CHINESE, ENGLISH, differences, outdated, seen

ENGLISH_TEXT = """# A

It takes `isthmus up` 0.21 s, see [how](docs/a.md).

## B

```sh
# no heading
isthmus up
```

| a | 1,775 |
|---|---|
"""
CHINESE_TEXT = """# 甲

`isthmus up` 需要 0.21 秒，见[用法](docs/a.md)。

## 乙

```sh
# no heading
isthmus up
```

| 甲 | 1,775 |
|---|---|
"""


def test_the_readme_in_chinese_has_what_the_english_one_has() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in (ENGLISH, CHINESE))
    assert differences(english, chinese) == []


def test_a_picture_may_be_of_the_page_in_the_reader_s_language() -> None:
    english, chinese = (
        text.replace("docs/a.md", f"docs/images/page-{language}.png")
        for text, language in ((ENGLISH_TEXT, "en"), (CHINESE_TEXT, "zh"))
    )
    assert differences(english, chinese) == []


def test_a_faithful_translation_has_no_difference() -> None:
    assert differences(ENGLISH_TEXT, CHINESE_TEXT) == []


@pytest.mark.parametrize(
    ("here", "there", "what"),
    [
        ("0.21 秒", "0.12 秒", "lacks the figure 0.21"),
        ("1,775", "1,757", "has the figure 1,757"),
        ("`isthmus up` 需要", "需要", "lacks the code `isthmus up`"),
        ("docs/a.md", "docs/b.md", "has the link docs/b.md"),
        ("# no heading\nisthmus up", "# 不是标题\nisthmus up", "lacks the block ```sh"),
        ("## 乙", "### 乙", "the headings are not the same"),
        ("## 乙\n", "", "the headings are not the same"),
    ],
)
def test_what_differs_is_told(here: str, there: str, what: str) -> None:
    assert CHINESE_TEXT.count(here) == 1
    told = differences(ENGLISH_TEXT, CHINESE_TEXT.replace(here, there))
    assert any(what in line for line in told)


def test_a_section_that_changed_in_english_is_named_until_somebody_has_seen_to_it() -> None:
    chinese = seen(ENGLISH_TEXT, CHINESE_TEXT)
    assert outdated(ENGLISH_TEXT, chinese) == []
    english = ENGLISH_TEXT.replace("It takes", "It may take")
    assert outdated(english, chinese) == ["# A"]
    assert outdated(english, seen(english, chinese)) == []
    assert differences(english, seen(english, chinese)) == []


def test_a_translation_that_names_no_original_is_outdated_everywhere() -> None:
    assert outdated(ENGLISH_TEXT, CHINESE_TEXT) == ["# A", "## B"]

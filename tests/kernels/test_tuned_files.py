"""Stored choices: what a file says, which device it is for, and what a wrong one gets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isthmus.core.errors import ConfigError
from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind
from isthmus.kernels.opencl.tuned import Passed, Tuned, TunedFiles, dump, parse, shipped
from isthmus.kernels.opencl.variants import TILES, Variant, default_choices, parse_shape
from opencl_devices import GPU

SHAPE = "960x576.4g32"


def tiles(gemv: str = "gemv.n:block=32,wgs=8", gemm: str = "gemm.n:block=32,tokens=4") -> Any:
    several = Variant.parse(gemm)
    return {tile: Variant.parse(gemv) if tile == 1 else several for tile in TILES}


def one(device: Capabilities, **shapes: Any) -> Tuned:
    return Tuned.of(device, shapes or {SHAPE: tiles()})


def test_what_is_written_is_read_again_and_a_choice_is_one_line() -> None:
    text = dump([one(GPU)])
    assert parse(text, "file") == (one(GPU),)
    expected = '"960x576.4g32@1": "gemv.n:block=32,blocks=1,lanes=16,split=1,tokens=1,wgs=8"'
    assert any(line.strip().rstrip(",") == expected for line in text.splitlines())


@pytest.mark.parametrize(
    ("other", "taken"),
    [
        ({"driver": "2.0"}, True),
        ({"name": "Big 200"}, True),
        ({"name": "Small", "architecture": "small"}, True),
        ({"name": "Small", "architecture": "small", "vendor": "Other"}, False),
        ({"kind": DeviceKind.CPU}, False),
    ],
)
def test_choices_serve_the_device_then_its_architecture_then_its_vendor(
    tmp_path: Path, other: dict[str, Any], taken: bool
) -> None:
    files = TunedFiles(tmp_path)
    files.keep([one(replace(GPU, **other))])
    assert bool(files.choices(GPU).table) == taken


def test_the_nearest_device_wins(tmp_path: Path) -> None:
    files = TunedFiles(tmp_path)
    far = {"vendor": "gemv.n:block=32,wgs=1", "architecture": "gemv.n:block=32,wgs=2"}
    files.keep([one(replace(GPU, name="a", architecture="b"), **{SHAPE: tiles(far["vendor"])})])
    form = parse_shape(SHAPE)
    assert files.choices(GPU).variant(form, 1) == Variant.parse(far["vendor"])
    files.keep([one(replace(GPU, driver="0"), **{SHAPE: tiles(far["architecture"])})])
    assert files.choices(GPU).variant(form, 1) == Variant.parse(far["architecture"])
    files.keep([one(GPU)])
    assert files.choices(GPU).variant(form, 1) == tiles()[1]


def test_a_shape_that_nobody_measured_gets_the_default(tmp_path: Path) -> None:
    files = TunedFiles(tmp_path)
    files.keep([one(GPU)])
    form = parse_shape("64x64.4g32")
    assert files.choices(GPU).variant(form, 1) == default_choices(GPU).default[1]


def test_measuring_a_shape_again_replaces_it_and_leaves_the_others(tmp_path: Path) -> None:
    files = TunedFiles(tmp_path)
    files.keep([one(GPU, **{SHAPE: tiles(), "64x64.4g32": tiles()})])
    newer = tiles("gemv.n:block=32,wgs=4")
    files.keep([one(GPU, **{SHAPE: newer})])
    assert files.own() == (one(GPU, **{SHAPE: newer, "64x64.4g32": tiles()}),)


def test_a_choice_that_the_device_cannot_run_is_not_taken(tmp_path: Path) -> None:
    files = TunedFiles(tmp_path)
    files.keep([one(GPU, **{SHAPE: tiles("gemv.n:block=32,wgs=64,split=8")})])
    assert not files.choices(GPU).table


def test_an_unverified_choice_waits_for_its_self_test_on_this_very_device(tmp_path: Path) -> None:
    files = TunedFiles(tmp_path)
    unverified = "gemv.n:block=32,fp16=1"
    files.keep([one(GPU, **{SHAPE: tiles(unverified)})])
    assert not files.choices(GPU).table
    passed, text = Passed(tmp_path), str(Variant.parse(unverified))
    passed.add(replace(GPU, driver="0.9"), [text])
    assert not files.choices(GPU).table
    passed.add(GPU, [text])
    assert files.choices(GPU).variant(parse_shape(SHAPE), 1) == Variant.parse(unverified)
    passed.forget(GPU, [text])
    assert not files.choices(GPU).table


def changed(path: str, value: Any) -> str:
    """The text of a file with one field changed; None takes it away."""
    whole = json.loads(dump([one(GPU)]))
    at = whole
    *before, last = path.split("/")
    for name in before:
        at = at[int(name)] if isinstance(at, list) else at[name]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("{", "format", "not JSON"),
        ("[]", "format", "no choices"),
        ('{"model": 1}', "format", "no choices"),
        (changed("format", 2), "format", "has format 2"),
        (changed("devices", {}), "devices", "list"),
        (changed("devices/0/driver", None), "devices[0].driver", "text"),
        (changed("devices/0/kind", 7), "devices[0].kind", "text"),
        (changed("devices/0/choices", []), "devices[0].choices", "object"),
        (changed(f"devices/0/choices/{SHAPE}@1", "gemv.x:wgs=1"), f"{SHAPE}@1", "not one of"),
        (changed(f"devices/0/choices/{SHAPE}@1", 3), f"{SHAPE}@1", "not one of"),
        (changed(f"devices/0/choices/{SHAPE}@1", "gemv.n:wgs=3000"), f"{SHAPE}@1", "wgs=3000"),
        (changed(f"devices/0/choices/{SHAPE}@4", "gemm.n:tokens=8"), f"{SHAPE}@4", "more than 4"),
        (changed(f"devices/0/choices/{SHAPE}@8", None), SHAPE, "tile 8"),
        (changed(f"devices/0/choices/{SHAPE}@1", "gemv.k"), SHAPE, "lie as"),
        (changed(f"devices/0/choices/{SHAPE}@5", "gemm.n"), f"{SHAPE}@5", "'5' is not"),
        (changed("devices/0/choices/big@1", "gemv.n"), "big@1", "not a form"),
    ],
)
def test_a_file_that_is_wrong_gets_an_error_that_names_the_field(
    text: str, field: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(text, "a file")
    assert str(caught.value.field).endswith(field)


def test_a_damaged_file_of_the_user_costs_its_choices_and_a_warning_not_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "choices.json").write_text("{", "utf-8")
    assert not TunedFiles(tmp_path).choices(GPU).table
    assert "left out" in caplog.text
    with pytest.raises(ConfigError, match="not JSON"):
        TunedFiles(tmp_path).own()


def test_what_ships_is_whole_and_needs_no_self_test() -> None:
    for entry in shipped():
        assert entry.choices
        for variants in entry.choices.values():
            assert all(variant.verified for variant in variants.values())


@pytest.mark.parametrize(
    ("other", "taken"),
    [
        ({}, True),
        ({"driver": "9.9", "platform": "OpenCL 3.0 PoCL 9.9"}, True),
        ({"name": "another", "vendor": "Other"}, True),
        ({"name": "another", "architecture": "another"}, True),
        ({"name": "another", "architecture": "another", "vendor": "Other"}, False),
    ],
)
def test_what_ships_serves_its_device_then_its_architecture_then_its_vendor(
    other: dict[str, Any], taken: bool
) -> None:
    for entry in shipped():
        known = replace(
            GPU,
            name=entry.device,
            driver=entry.driver,
            platform=entry.platform,
            kind=DeviceKind(entry.kind),
            vendor=entry.vendor,
            architecture=entry.architecture,
        )
        chosen = TunedFiles(None).choices(replace(known, **other))
        for shape, variants in entry.choices.items():
            if taken:
                assert chosen.variant(parse_shape(shape), 1) == variants[1]
            else:
                assert not chosen.table


def test_choices_that_lie_as_by_default_need_no_weights_prepared_again(tmp_path: Path) -> None:
    files, default = TunedFiles(tmp_path), default_choices(GPU)
    block = default.default[1].layout.block
    files.keep([one(GPU, **{SHAPE: tiles(f"gemv.n:block={block}", f"gemm.n:block={block}")})])
    assert files.choices(GPU).table
    assert files.choices(GPU).identity == default.identity
    files.keep([one(GPU, **{SHAPE: tiles()})])
    assert files.choices(GPU).identity != default.identity

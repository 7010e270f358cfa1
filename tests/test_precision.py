"""Numbers that people compare are computed in float32, however the process rounds."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch

from gangen.metrics.features import FeatureNet
from gangen.precision import choose_float32, exactly

RULES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)


def kinds() -> list[str]:
    return [rule.fp32_precision for rule in RULES]


def older() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def by_the_newer_names() -> None:
    for rule in RULES:
        rule.fp32_precision = "tf32"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = kinds()
    yield
    choose_float32("ieee")
    for rule, kind in zip(RULES, before, strict=True):
        rule.fp32_precision = kind


@pytest.mark.parametrize("choose", [lambda: choose_float32("tf32"), by_the_newer_names, lambda: None])
def test_within_it_nothing_is_rounded_and_after_it_all_is_as_it_was(choose: Callable[[], Any]) -> None:
    choose()
    before = kinds()
    with suppress(ZeroDivisionError), torch.autocast("cpu", torch.bfloat16), exactly("cpu"):
        assert kinds() == ["ieee", "ieee"]
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        raise ZeroDivisionError
    assert kinds() == before


def test_what_torch_compile_reads_is_as_it_was_too() -> None:
    choose_float32("tf32")
    with exactly("cpu"):
        pass
    assert older() == ("high", True)


def test_features_of_sets_are_seen_so() -> None:
    choose_float32("tf32")
    seen: list[list[str]] = []

    def look(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(kinds())
        return pictures.flatten(1)

    FeatureNet(look, {})(torch.zeros(1, 3, 2, 2))
    assert seen == [["ieee", "ieee"]]
    assert kinds() == ["tf32", "tf32"]

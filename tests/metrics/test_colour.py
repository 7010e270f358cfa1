import pytest
import torch

from gangen import colour
from gangen.metrics import COLOUR
from tests.metrics.noise import noise


def test_saturation_tells_a_faded_picture_from_its_target():
    target = noise(1, 3, 8, 8)
    faded = colour.luminance(target).expand(-1, 3, -1, -1)
    values = {metric.name: metric(faded, target).item() for metric in COLOUR}
    assert values["saturation"] == pytest.approx(0, abs=1e-3)
    spread = target.amax(dim=1) - target.amin(dim=1)
    assert values["saturation_target"] == pytest.approx(spread.mean().item() / 2)
    assert values["saturation_gap"] == pytest.approx(values["saturation_target"], abs=1e-3)


def test_colourfulness_is_that_of_its_authors():
    """Half red, half blue: rg is 255 and 0, yb is 127.5 and -255, so the sum can be done by hand."""
    target = -torch.ones(1, 3, 4, 4)
    target[:, 0, :, :2] = target[:, 2, :, 2:] = 1
    grey = torch.zeros(1, 3, 4, 4)
    spread = (127.5**2 + 191.25**2) ** 0.5
    expected = spread + 0.3 * (127.5**2 + 63.75**2) ** 0.5
    values = {metric.name: metric(grey, target).item() for metric in COLOUR}
    assert values["colourfulness_target"] == pytest.approx(expected, rel=1e-5)
    assert values["colourfulness"] == pytest.approx(0, abs=1e-3)
    assert values["colourfulness_gap"] == pytest.approx(expected, rel=1e-5)


def test_numbers_that_only_describe_have_no_better_direction():
    better = {metric.name: metric.better for metric in COLOUR}
    assert {name for name, direction in better.items() if direction == "lower"} == {
        "saturation_gap",
        "colourfulness_gap",
    }

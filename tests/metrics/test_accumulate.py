import pytest
import torch

from gangen import metrics
from gangen.metrics import STANDARD, Metric, Metrics
from tests.metrics.noise import noise


def test_one_picture_alone_and_in_a_batch_get_the_same_values():
    output, target = noise(3, 3, 24, 20), noise(3, 3, 24, 20, seed=1)
    for metric in STANDARD:
        together = metric(output, target)
        alone = torch.cat([metric(output[i : i + 1], target[i : i + 1]) for i in range(3)])
        assert together.shape == (3,)
        assert torch.allclose(together, alone, atol=1e-5), metric.name


def test_values_outside_the_range_are_judged_as_they_would_be_saved():
    output, target = 3 * noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
    for metric in STANDARD:
        assert torch.equal(metric(output, target), metric(output.clamp(-1, 1), target)), metric.name


def test_means_weigh_every_picture_alike_whatever_the_batches():
    output, target = noise(5, 3, 16, 16), noise(5, 3, 16, 16, seed=1)
    whole = Metrics()
    whole.update(output, target)
    pieces = Metrics()
    for part in (slice(0, 4), slice(4, 5)):
        pieces.update(output[part], target[part])
    assert pieces.compute() == pytest.approx(whole.compute(), rel=1e-6)
    assert whole.compute()["l1"] == pytest.approx(metrics.l1(output, target).mean().item())
    assert list(whole.compute()) == [metric.name for metric in STANDARD] == list(whole.protocols)


def test_what_a_training_rounds_to_costs_no_digits():
    output, target, kernel = noise(2, 3, 32, 32), noise(2, 3, 32, 32, seed=1), noise(4, 3, 3, 3, seed=2)

    def filtered(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(output - target, kernel).abs().mean(dim=(1, 2, 3))

    seeing = [*STANDARD, Metric("filtered", filtered, "lower", {})]  # as LPIPS and DISTS see
    exact, rounded = Metrics(seeing), Metrics(seeing)
    exact.update(output, target)
    with torch.autocast("cpu", torch.bfloat16):
        rounded.update(output, target)
    assert rounded.compute() == exact.compute()


def test_processes_add_up_and_fillers_do_not_count():
    output, target = noise(4, 3, 16, 16), noise(4, 3, 16, 16, seed=1)
    output[3] = float("nan")
    ranks = [Metrics(), Metrics()]
    ranks[0].update(output[:2], target[:2])
    ranks[1].update(output[2:], target[2:], counted=torch.tensor([True, False]))
    together = ranks[0].compute([rank.state() for rank in ranks])
    assert together["psnr"] == pytest.approx(metrics.psnr(output[:3], target[:3]).mean().item())


def test_metrics_start_again_and_without_pictures_are_not_a_number():
    meter = Metrics()
    meter.update(noise(1, 3, 16, 16), noise(1, 3, 16, 16))
    meter.reset()
    assert all(value != value for value in meter.compute().values())
    with pytest.raises(ValueError, match="names of their own"):
        Metrics([metrics.L1, Metric("l1", metrics.psnr, "higher", {})])

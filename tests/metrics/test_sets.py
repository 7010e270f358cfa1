import json

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchvision.models import alexnet

from gangen.errors import ProtocolError, UserError
from gangen.metrics import (
    L1,
    LPIPS,
    FeatureNet,
    Metrics,
    compare,
    diversity,
    fid,
    judge,
    judge_sets,
    kid,
    read_results,
    write_results,
)
from gangen.metrics.result import bootstrap, bootstrap_sum
from tests.metrics.noise import noise

MEANS = FeatureNet(lambda pictures: pictures.mean(dim=(2, 3)), {"network": "mean colours"})
SPREADS = FeatureNet(lambda pictures: pictures.flatten(2).std(dim=2), {"network": "deviations"})


def points(count, width=6, shift=0.0, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


def kernel(x, y):
    return (float(x @ y) / len(x) + 1) ** 3


def named(pictures, prefix=""):
    return [(f"{prefix}{index}", picture) for index, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def alex(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save({f"features.{k}": v for k, v in alexnet(weights=None).features.state_dict().items()}, path)
    return path


def test_fid_is_that_of_torch_fidelity_also_of_sets_of_unlike_counts():
    mixing = points(6, seed=2)
    outputs, targets = points(80) @ mixing, points(60, shift=0.5, seed=1)
    statistics = [fid_features_to_statistics(x.double()) for x in (outputs, targets)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert expected > 1
    assert fid(MEANS)(outputs, targets).value == pytest.approx(expected, rel=1e-9)


def test_fid_of_one_feature_is_worked_out_by_hand():
    """(m1 - m2)² + (s1 - s2)² with the deviations s of n - 1."""
    outputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [5.0], [6.0]])
    assert fid(MEANS)(outputs, targets).value == pytest.approx((2 - 5) ** 2 + (2**0.5 - 1) ** 2)


def test_kid_is_the_mean_of_the_kernel_over_all_pairs_but_those_of_a_picture_with_itself():
    outputs, targets = points(7).double(), points(5, shift=0.3, seed=1).double()
    within = [np.mean([kernel(x, y) for x in s for y in s if x is not y]) for s in (list(outputs), list(targets))]
    across = np.mean([kernel(x, y) for x in outputs for y in targets])
    assert kid(MEANS)(outputs, targets).value == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kid_does_not_depend_on_the_blocks_it_is_computed_in(monkeypatch):
    outputs, targets = points(7), points(5, shift=0.3, seed=1)
    whole = kid(MEANS)(outputs, targets).value
    monkeypatch.setattr("gangen.metrics.sets._BLOCK", 2)
    assert kid(MEANS)(outputs, targets).value == pytest.approx(whole, rel=1e-12)


def test_kid_of_sets_of_one_law_is_0_on_average():
    """Were each picture compared with itself too, it would be above 0."""
    values = torch.tensor([kid(MEANS)(points(20, seed=i), points(30, seed=1000 + i)).value for i in range(400)])
    assert abs(values.mean()) < 3 * values.std() / 20
    assert values.std() / 20 < 0.02


@pytest.mark.slow
def test_the_intervals_of_kid_and_diversity_hold_the_true_value_as_often_as_they_say(alex):
    (varied, _) = diversity(weights=alex)
    truth = {"kid": kid(MEANS)(points(4000, 2, 1.0), points(4000, 2, 0.0, 1)).value, "diversity": 4.0}
    held = dict.fromkeys(truth, 0)
    for i in range(150):
        outputs, targets = points(60, 2, 1.0, 10 + i), points(60, 2, 0.0, 5000 + i)
        for metric in (kid(MEANS), varied):
            estimate = metric(outputs, targets)
            swings = [bootstrap(pull.tolist(), resamples=300, seed=j) for j, pull in enumerate(estimate.pulls)]
            reach = sum(((swing.high - swing.low) / 2) ** 2 for swing in swings) ** 0.5
            held[metric.name] += abs(estimate.value - truth[metric.name]) < reach
    assert all(132 <= count <= 149 for count in held.values()), held


def test_diversity_is_the_mean_lpips_over_all_pairs(alex):
    outputs, targets = noise(5, 3, 64, 64), noise(4, 3, 64, 64, seed=1).sign()
    lpips = LPIPS(weights=alex)
    found = {r.metric: r for r in judge_sets(named(outputs), named(targets), diversity(weights=alex))}
    for name, pictures in (("diversity", outputs), ("diversity_target", targets)):
        pairs = [(x, y) for i, x in enumerate(pictures) for y in pictures[i + 1 :]]
        expected = np.mean([lpips(x[None], y[None]).item() for x, y in pairs])
        assert expected > 0
        assert found[name].value == pytest.approx(expected, rel=1e-4)
    assert found["diversity"].protocol["features"]["weights"] == lpips.protocol["weights"]
    assert "64x64" in found["diversity"].protocol["features"]["resize"]


def test_a_collapsed_generator_has_no_diversity(alex):
    same, targets = noise(1, 3, 40, 48).expand(4, -1, -1, -1), noise(4, 3, 50, 33, seed=1)
    collapsed, real = judge_sets(named(same), named(targets), diversity(weights=alex))
    assert collapsed.value == pytest.approx(0, abs=1e-6)
    assert real.value > 1e-3


def test_batches_and_processes_make_no_difference_and_fillers_do_not_count():
    output, target = noise(9, 3, 8, 8), noise(9, 3, 8, 8, seed=1)
    chosen = [fid(MEANS), L1, kid(MEANS), kid(SPREADS)]
    chosen[3] = type(chosen[3])("kid_spreads", SPREADS, chosen[3].function, "lower", chosen[3].protocol)
    whole = Metrics(chosen)
    whole.update(output[:8], target[:8])
    assert list(whole.compute()) == ["fid", "l1", "kid", "kid_spreads"]
    ranks = [Metrics(chosen), Metrics(chosen), Metrics(chosen)]
    for rank, part in ((0, slice(0, 3)), (0, slice(3, 4)), (1, slice(4, 7))):
        ranks[rank].update(output[part], target[part])
    ranks[1].update(output[7:], target[7:], counted=torch.tensor([True, False]))
    states = [rank.state() for rank in ranks]  # the third process had no picture at all
    assert ranks[2].compute(states) == pytest.approx(whole.compute(), rel=1e-9)


def test_metrics_that_share_a_network_ask_it_once():
    asked = []
    net = FeatureNet(lambda pictures: asked.append(len(pictures)) or pictures.mean(dim=(2, 3)), {})
    meter = Metrics([fid(net), kid(net)])
    meter.update(noise(3, 3, 8, 8), noise(3, 3, 8, 8))
    assert asked == [3, 3]


def test_reduced_precision_of_a_training_does_not_reach_its_metrics():
    net = FeatureNet(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten()), {})
    meter, plain = Metrics([kid(net)]), Metrics([kid(net)])
    with torch.autocast("cpu", torch.bfloat16):
        meter.update(noise(3, 3, 8, 8), noise(3, 3, 8, 8, seed=1))
    plain.update(noise(3, 3, 8, 8), noise(3, 3, 8, 8, seed=1))
    assert meter.compute() == plain.compute()


def test_sets_of_unlike_counts_and_sizes_are_judged_and_say_so(tmp_path):
    outputs, targets = [noise(3, 8 + i, 9, seed=i) for i in range(4)], noise(3, 3, 8, 8, seed=9)
    results = judge_sets(named(outputs), named(targets, "t"), [fid(MEANS), kid(MEANS)])
    distance, discrepancy = results
    assert distance.protocol["counts"] == {"outputs": 4, "targets": 3}
    assert distance.protocol["features"] == {"network": "mean colours"}
    assert (distance.interval, distance.values) == (None, {})
    assert distance.protocol["interval"].startswith("none: ")
    interval = discrepancy.interval
    swing = bootstrap_sum(
        [
            pull.tolist()
            for pull in kid(MEANS)(
                *(torch.cat([MEANS(picture[None]) for picture in s]) for s in (outputs, targets))
            ).pulls
        ]
    )
    assert interval.low == pytest.approx(discrepancy.value + swing.low, rel=1e-4)
    assert interval.high == pytest.approx(discrepancy.value + swing.high, rel=1e-4)
    write_results(results, tmp_path / "sets.json")
    assert read_results(tmp_path / "sets.json") == results


def test_pairs_are_judged_as_sets_too():
    outputs, targets = noise(4, 3, 8, 8), noise(4, 3, 8, 8, seed=1)
    pairs = [(str(i), outputs[i], targets[i]) for i in range(4)]
    discrepancy, l1 = judge(pairs, [kid(MEANS), L1])
    (alone,) = judge_sets(named(outputs), named(targets), [kid(MEANS)])
    assert discrepancy.value == pytest.approx(alone.value)
    assert (len(l1.values), discrepancy.protocol) == (4, alone.protocol)


def test_two_feature_networks_or_counts_refuse_to_be_compared():
    outputs, targets = noise(4, 3, 8, 8), noise(4, 3, 8, 8, seed=1)
    (ours,) = judge_sets(named(outputs), named(targets), [kid(MEANS)])
    (theirs,) = judge_sets(named(outputs), named(targets), [kid(SPREADS)])
    with pytest.raises(ProtocolError, match="features network 'mean colours' and 'deviations'"):
        compare(ours, theirs)
    (fewer,) = judge_sets(named(outputs[:3]), named(targets), [kid(MEANS)])
    with pytest.raises(ProtocolError, match="counts outputs 4 and 3"):
        compare(ours, fewer)
    done = compare(ours, ours)
    assert (done.difference, done.interval, done.winner) == (0, None, None)
    assert "whole sets" in done.notes[0]


def test_a_result_of_pictures_whose_values_were_taken_out_is_refused(tmp_path):
    path = tmp_path / "results.json"
    write_results(judge([("a", noise(3, 8, 8), noise(3, 8, 8, seed=1))], [L1]), path)
    content = json.loads(path.read_text())
    content["results"][0]["values"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="l1 has 0 values, of 1 pictures"):
        read_results(path)


@pytest.mark.parametrize("counts", [(1, 4), (4, 1)])
def test_a_set_of_one_picture_is_refused(counts):
    pictures = [named(noise(count, 3, 8, 8)) for count in counts]
    with pytest.raises(
        UserError, match=f"kid is of sets of two pictures at least, these are {counts[0]} and {counts[1]}"
    ):
        judge_sets(*pictures, [kid(MEANS)])

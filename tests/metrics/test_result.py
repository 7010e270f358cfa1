import json

import pytest
import torch

from gangen.errors import ProtocolError, UserError
from gangen.metrics import L1, PSNR, bootstrap, compare, cropped, judge, read_results, write_results
from tests.metrics.noise import noise


def pictures(count=8, error=0.1, seed=0, prefix=""):
    """Named pairs of different sizes; each output is off its target by chance, `error` at most."""
    for index in range(count):
        target = noise(3, 16 + index, 20, seed=100 + index)
        yield (
            f"{prefix}{index}",
            (target + error * noise(3, 16 + index, 20, seed=seed + index)).clamp(-1, 1),
            target,
        )


def test_a_result_has_every_pictures_value_and_says_how_it_came_about():
    l1, psnr = judge(pictures(), [L1, PSNR], about={"run": "first"})
    assert list(psnr.values) == [str(index) for index in range(8)]
    for name, output, target in pictures():
        assert psnr.values[name] == pytest.approx(PSNR(output[None], target[None]).item(), abs=1e-5)
    assert psnr.value == pytest.approx(sum(psnr.values.values()) / 8)
    assert (l1.better, psnr.better) == ("lower", "higher")
    assert psnr.protocol["pictures"] == 8
    assert psnr.protocol["colour"] == "RGB"
    assert torch.__version__.startswith(psnr.protocol["versions"]["torch"])
    assert psnr.about == {"run": "first"}


def test_results_survive_their_file(tmp_path):
    results = judge(pictures(), [L1, PSNR], protocol={"prepared": "not at all"}, about={"run": "first"})
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results
    assert json.loads((tmp_path / "results.json").read_text())["results"][1]["value"] == results[1].value


def test_a_file_that_was_tampered_with_or_is_no_result_is_refused(tmp_path):
    path = tmp_path / "results.json"
    write_results(judge(pictures(), [L1]), path)
    content = json.loads(path.read_text())
    content["results"][0]["value"] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results\.json.*not the mean of its 8 values"):
        read_results(path)
    del content["results"][0]["protocol"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results\.json.*protocol"):
        read_results(path)
    for text in ("", "[]", '{"format": 99, "results": []}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"results\.json.*Expected a file that"):
            read_results(path)


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    """Of 200 draws of 40 values from a known law, 95% of the intervals hold its mean, give or take chance."""
    dice = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        interval = bootstrap((5 + torch.randn(40, generator=dice)).tolist(), resamples=400)
        held += interval.low < 5 < interval.high
    assert 178 <= held <= 198


def test_the_bootstrap_is_seeded_and_says_how_it_was_done():
    values = torch.arange(20.0).tolist()
    interval = bootstrap(values)
    assert interval == bootstrap(values)
    assert (interval.low, interval.high) != (bootstrap(values, seed=1).low, bootstrap(values, seed=1).high)
    assert (interval.level, interval.resamples, interval.seed) == (0.95, 2000, 0)
    assert bootstrap([1.0]) is None
    # the normal approximation, 1.96 standard errors either way
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 33.25**0.5 / 20**0.5, rel=0.05)


def test_unlike_protocols_refuse_to_be_compared_and_the_entries_are_named():
    (whole,) = judge(pictures(), [PSNR])
    (inner,) = judge(pictures(), [cropped(PSNR, 4)])
    with pytest.raises(ProtocolError, match="crop 0 and 4") as refused:
        compare(whole, inner)
    assert "colour" not in str(refused.value)
    (fewer,) = judge(pictures(7), [PSNR])
    with pytest.raises(ProtocolError, match="pictures 8 and 7"):
        compare(whole, fewer)
    (prepared,) = judge(pictures(), [PSNR], protocol={"prepared": "squares"})
    with pytest.raises(ProtocolError, match="prepared not stated and 'squares'"):
        compare(whole, prepared)
    (other,) = judge(pictures(), [L1])
    with pytest.raises(ProtocolError, match="psnr and l1"):
        compare(whole, other)


def test_other_targets_refuse_to_be_compared_although_the_names_agree():
    (ours,) = judge(pictures(), [PSNR])
    (theirs,) = judge(((name, target, output) for name, output, target in pictures()), [PSNR])
    with pytest.raises(ProtocolError, match="targets"):
        compare(ours, theirs)


def test_a_small_difference_on_every_picture_is_seen_by_the_paired_interval():
    (good,) = judge(pictures(error=0.1), [PSNR])
    (bad,) = judge(pictures(error=0.105), [PSNR])
    done = compare(bad, good)
    assert done.difference == pytest.approx(good.value - bad.value)
    assert 0 < done.interval.low < done.difference < done.interval.high
    assert done.winner == "second"
    assert compare(good, bad).winner == "first"
    assert compare(good, good).winner is None
    # alone, each result's interval is far wider than that
    assert done.interval.high - done.interval.low < 0.2 * (good.interval.high - good.interval.low)


def test_the_better_direction_is_the_metrics_own():
    (good,), (bad,) = (judge(pictures(error=error), [L1]) for error in (0.1, 0.2))
    assert compare(bad, good).winner == "second"


def test_other_names_leave_no_interval_and_other_versions_are_told():
    (ours,) = judge(pictures(), [PSNR])
    (renamed,) = judge(pictures(prefix="x"), [PSNR])
    done = compare(ours, renamed)
    assert (done.difference, done.interval, done.winner) == (0, None, None)
    assert "other names" in done.notes[0]
    old = renamed.to_json()
    old["protocol"]["versions"] = {**old["protocol"]["versions"], "torch": "1.0"}
    assert any("torch" in note and "'1.0'" in note for note in compare(ours, type(ours).from_json(old)).notes)


def test_pictures_that_cannot_be_judged_are_named():
    with pytest.raises(UserError, match="no picture to judge"):
        judge([], [PSNR])
    with pytest.raises(UserError, match=r"^7: of 23x20"):
        judge(
            ((name, output.mT, target.mT) for name, output, target in list(pictures())[7:]),
            [cropped(PSNR, 10)],
        )
    with pytest.raises(UserError, match=r"^0: l1 is nan"):
        judge([(name, output * torch.nan, target) for name, output, target in pictures(1)], [L1])
    with pytest.raises(ValueError, match="two pictures have the name '0'"):
        judge([*pictures(1), *pictures(1)], [PSNR])

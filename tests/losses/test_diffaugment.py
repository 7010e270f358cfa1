import pytest
import torch

from gangen.losses import diff_augment


def pictures(count=4, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_nothing_asked_nothing_done():
    assert torch.equal(diff_augment(pictures(), colour=False, shift=0, hole=0), pictures())


@pytest.mark.parametrize(("fill", "mode"), [("grey", "constant"), ("edge", "replicate")])
def test_shifting_moves_each_picture_as_a_whole_by_an_eighth_at_most(fill, mode):
    torch.manual_seed(0)
    x = pictures(64)
    moved = diff_augment(x, colour=False, shift=0.125, hole=0, fill=fill)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode=mode)
    places = set()
    for before, after in zip(padded, moved, strict=True):
        found = [
            (2 - top, 2 - left)
            for top in range(5)
            for left in range(5)
            if torch.equal(before[:, top : top + 16, left : left + 16], after)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15  # of 25
    assert {down for down, _ in places} == {right for _, right in places} == {-2, -1, 0, 1, 2}


def test_a_hole_is_a_square_of_half_the_side_at_most_and_the_rest_stays():
    torch.manual_seed(0)
    x = pictures(64)
    holed = diff_augment(x, colour=False, shift=0, hole=0.5)
    blank = (holed == 0).all(dim=1)
    assert torch.equal(holed.masked_select(~blank[:, None]), x.masked_select(~blank[:, None]))
    counts = blank.sum(dim=(1, 2))
    assert counts.max() == 64
    assert counts.min() > 0
    for hole in blank:
        rows, columns = hole.any(dim=1).sum(), hole.any(dim=0).sum()
        assert hole.sum() == rows * columns


def test_colours_vary_by_picture_and_not_by_place():
    torch.manual_seed(0)
    x = pictures(1).expand(8, -1, -1, -1)
    varied = diff_augment(x, shift=0, hole=0)
    assert len({round(value, 3) for value in varied.mean(dim=(1, 2, 3)).tolist()}) > 5
    # Each is an affine change of the colours, alike at all places: 3x3 and a shift explain it.
    flat = torch.cat([x[0].flatten(1), torch.ones(1, 256)]).T
    for after in varied:
        solved = torch.linalg.lstsq(flat, after.flatten(1).T).solution
        torch.testing.assert_close(flat @ solved, after.flatten(1).T, atol=1e-3, rtol=0)


def test_gradients_flow_and_chance_comes_from_the_global_generator():
    x = pictures().requires_grad_()
    torch.manual_seed(1)
    once = diff_augment(x)
    once.sum().backward()
    assert x.grad.abs().sum() > 0
    torch.manual_seed(1)
    assert torch.equal(diff_augment(x), once)
    assert not torch.equal(diff_augment(x), once)

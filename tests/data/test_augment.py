import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from gangen.data import Augment, Centre, Crop, Whole
from gangen.errors import DataError
from tests.data.pictures import landscape, negative


def seeded(augment, seed, *pictures):
    torch.manual_seed(seed)
    return [np.asarray(picture, dtype=int) for picture in augment(*pictures)]


def test_input_and_target_stay_aligned():
    """The target is a function of the input, pixel by pixel, before and after."""
    picture = landscape(size=(60, 50))
    augment = Augment(24, scale=(0.3, 1.0))
    for seed in range(30):
        given, target = seeded(augment, seed, picture, negative(picture))
        assert given.shape == target.shape == (24, 24, 3)
        assert np.abs(given + target - 255).max() <= 1


def test_a_seed_decides_the_sample_and_seeds_differ():
    augment = Augment(16, jitter=0.3, scale=(0.5, 1.0))
    samples = [seeded(augment, seed, landscape())[0].tobytes() for seed in range(20)]
    assert samples == [
        seeded(pickle.loads(pickle.dumps(augment)), seed, landscape())[0].tobytes() for seed in range(20)
    ]
    assert len(set(samples)) == 20


def test_building_draws_no_random_number():
    before = torch.get_rng_state()
    Augment(16, jitter=0.5), Centre(16)
    Centre(16)(landscape())
    assert torch.equal(before, torch.get_rng_state())


def test_half_of_the_samples_are_mirrored_and_none_where_unwanted():
    """Red grows to the right in the picture, so it falls to the right in a mirrored one."""
    mirrored = {
        flip: sum(
            np.diff(seeded(Augment(16, flip=flip), seed, landscape())[0][8, :, 0]).mean() < 0
            for seed in range(200)
        )
        for flip in (True, False)
    }
    assert 70 < mirrored[True] < 130
    assert mirrored[False] == 0


def test_crops_have_the_asked_scale_and_reach_every_border():
    """A crop of side s shows s columns, which the range of red tells."""
    picture = landscape(size=(60, 40))
    crops = [seeded(Augment(64, flip=False, scale=(0.5, 0.75)), seed, picture)[0] for seed in range(300)]
    sides = [(np.ptp(crop[:, :, 0]) / 4 + 1) / 40 for crop in crops]
    assert 0.46 < min(sides) < 0.52
    assert 0.73 < max(sides) < 0.79
    assert {crop[:, :, 0].min() // 4 for crop in crops} >= {0}
    assert {crop[:, :, 0].max() // 4 for crop in crops} >= {59}
    assert {crop[:, :, 1].max() // 4 for crop in crops} >= {39}


def test_jitter_changes_colours_alike_in_both_pictures():
    picture = landscape()
    changed = 0
    for seed in range(10):
        given, target = seeded(Augment(16, jitter=0.4, flip=False, scale=(1, 1)), seed, picture, picture)
        assert (given == target).all()
        plain = seeded(Augment(16, flip=False, scale=(1, 1)), seed, picture)[0]
        changed += np.abs(given - plain).mean() > 5
    assert changed >= 7


def test_validation_takes_the_middle():
    (crop,) = Centre(30)(landscape(size=(50, 30)))
    assert np.asarray(crop)[0, :, 0].tolist() == [4 * column for column in range(10, 40)]


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (1, 90)])
def test_a_picture_smaller_than_the_crop_is_enlarged(size):
    for transform in (Augment(32, jitter=0.1), Centre(32)):
        (grown,) = transform(landscape(size=size))
        assert grown.size == (32, 32)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 8, "scale": (0.9, 0.5)}, "scale"),
        ({"size": 8, "scale": (0.5, 1.5)}, "scale"),
        ({"size": 8, "jitter": -1}, "jitter=-1"),
    ],
)
def test_values_out_of_range_are_refused(values, told):
    with pytest.raises(DataError, match=told):
        Augment(**values)


def test_a_crop_is_the_same_place_of_small_and_large():
    small = landscape(size=(40, 30))
    large = small.resize((120, 90), Image.Resampling.NEAREST)
    looks = set()
    for seed in range(40):
        one, other = seeded(Crop(24), seed, small, large)
        assert one.shape == (8, 8, 3)
        assert np.array_equal(one.repeat(3, axis=0).repeat(3, axis=1), other)
        # Red grows to the right and green downwards, so these two differences tell how it was turned and mirrored.
        looks.add((*np.sign(one[0, -1] - one[0, 0])[:2], *np.sign(one[-1, 0] - one[0, 0])[:2]))
    assert len(looks) == 8
    assert len({seeded(Crop(24, turn=False), seed, small, large)[0][0, 0, 0] for seed in range(20)}) > 8


def test_a_crop_does_not_resize_but_what_is_too_small():
    picture = landscape(size=(50, 40))
    (cut,) = seeded(Crop(16, turn=False), 3, picture)
    whole = np.asarray(picture, dtype=int)
    places = [(y, x) for y in range(25) for x in range(35)]
    assert any(np.array_equal(c, whole[y : y + 16, x : x + 16]) for c in (cut, cut[:, ::-1]) for y, x in places)
    (enlarged,) = seeded(Crop(64), 0, picture)
    assert enlarged.shape == (64, 64, 3)
    small, large = seeded(Crop(64), 0, landscape(size=(15, 9)), landscape(size=(60, 36)))
    assert (small.shape, large.shape) == ((16, 16, 3), (64, 64, 3))
    with pytest.raises(DataError, match=r"size=25: .* multiple of 4, like 24"):
        Crop(25)(landscape(size=(15, 9)), landscape(size=(60, 36)))


@pytest.mark.parametrize(("multiple", "left"), [(1, (50, 41)), (2, (50, 40)), (3, (48, 39)), (4, (48, 40))])
def test_the_whole_picture_but_for_what_is_no_multiple(multiple, left):
    picture = landscape(size=(50, 41))
    (whole,) = Whole(multiple)(picture)
    assert whole.size == left
    assert whole.tobytes() == picture.crop((0, 0, *left)).tobytes()
    small, large = Whole(multiple)(landscape(size=(13, 7)), landscape(size=(13 * multiple, 7 * multiple)))
    assert (small.size, large.size) == ((13, 7), (13 * multiple, 7 * multiple))
    assert Whole(4)(landscape(size=(3, 9)))[0].size == (4, 8)

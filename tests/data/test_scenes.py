import numpy as np
import torch

from gangen.data import SCENES, open_masks, open_scenes


def test_scenes_have_exact_labels_and_are_decided_by_their_names():
    train, held_out = open_scenes(96, train=40, held_out=10)
    seen = set()
    for index in range(len(train.names)):
        picture, mask = train.read(index)
        levels = np.asarray(mask)
        assert picture.size == mask.size == (96, 96)
        seen |= set(np.unique(levels).tolist())
        assert train.read(index)[0].tobytes() == picture.tobytes()
        assert 0.3 < (levels == 0).mean() < 1
    assert seen == set(range(len(SCENES)))
    assert not {train.read(k)[0].tobytes() for k in range(40)} & {held_out.read(k)[0].tobytes() for k in range(10)}
    assert train.fingerprint() != held_out.fingerprint()


def test_a_shape_is_where_its_label_says():
    """The picture differs from one without shapes exactly where the mask is not background, up to its edges."""
    train, _ = open_scenes(96, train=1)
    picture, mask = train.read(0)
    shapes = np.asarray(mask) > 0
    values = np.asarray(picture).astype(float)
    step = np.abs(np.diff(values, axis=1)).max(axis=2)
    edge = shapes[:, 1:] != shapes[:, :-1]
    assert np.median(step[edge]) > 3 * np.median(step[~edge])


def test_without_a_folder_masks_are_those_of_scenes():
    train, val = open_masks(None, size=(32, 48))
    sample = train[0]
    assert (len(train), len(val)) == (400, 80)
    assert sample.input.shape == (3, 32, 48)
    assert sample.target.shape == (32, 48)
    assert train.classes is SCENES
    assert torch.equal(val[3].target, val[3].target)

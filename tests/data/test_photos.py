import importlib.util

import numpy as np
import pytest
from PIL import Image

from gangen.data import embedded_photographs, open_photographs, photos
from gangen.errors import DataError


def test_photographs_are_colourful_and_large_enough():
    photographs = embedded_photographs()
    assert len({name for name, _ in photographs}) == 5
    for _, picture in photographs:
        assert picture.mode == "RGB"
        assert min(picture.size) >= 300


def test_training_and_validation_share_no_pixel(monkeypatch):
    """Photographs whose every pixel has a colour of its own show which places each part sees."""

    def numbered(first, size):
        numbers = first + np.arange(size[0] * size[1]).reshape(size[1], size[0])
        channels = [numbers % 256, numbers // 256 % 256, numbers // 65536]
        return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))

    fakes = [("chelsea", numbered(0, (90, 60))), ("two", numbered(10_000, (50, 70)))]
    monkeypatch.setattr(photos, "embedded_photographs", lambda: fakes)

    def places(source):
        seen = set()
        for index in range(len(source.names)):
            colours = np.asarray(source.read(index)[0], dtype=int).reshape(-1, 3)
            seen |= set((colours @ [1, 256, 65536]).tolist())
        return seen

    training, held_out = map(places, open_photographs(crops=2))
    assert not training & held_out
    assert len(training) == 67 * 60 + 38 * 70 + (90 - round(0.25 * 90) - 67) * 60
    assert len(held_out) > 0.15 * (90 * 60 + 50 * 70)


def test_a_pass_has_hundreds_of_samples_and_unique_names():
    training, held_out = open_photographs()
    assert len(training.names) == len(set(training.names)) == 300
    assert len(held_out.names) == len(set(held_out.names)) >= 10
    assert all(min(held_out.read(index)[0].size) >= 96 for index in range(len(held_out.names)))
    assert training.fingerprint() == open_photographs()[0].fingerprint() != held_out.fingerprint()


def test_without_scikit_image_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "gangen\[samples\]"'):
        embedded_photographs()

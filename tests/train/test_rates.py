"""The plot of the range test: what it shows, and what happens where nothing can draw it."""

import io
import sys

import pytest
from PIL import Image

from gangen.errors import UserError
from gangen.train import Rates

FOUND = Rates(
    rates=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    losses=(2.0, 2.1, 1.9, 1.0, 0.8, 30.0, 5000.0),
    valley=1e-3,
    steepest=1e-2,
)


def test_the_plot_shows_the_fall_and_the_two_rates_and_not_the_explosion() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = FOUND._figure().axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("learning rate", "loss", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["valley: 0.001", "steepest: 0.01"]
    curve, *marks = axes.lines
    assert list(zip(*curve.get_data(), strict=True)) == list(zip(FOUND.rates, FOUND.losses, strict=True))
    dots = [mark.get_data() for mark in marks if mark.get_marker() == "o"]
    places = {(float(x[0]), float(y[0])) for x, y in dots}
    assert places == {(1e-3, 1.9), (1e-2, 1.0)}
    low, high = axes.get_ylim()
    assert low < 0.8
    assert 2.1 < high < 2.5, "the last losses would flatten all others"


def test_the_plot_is_a_picture_also_for_a_notebook() -> None:
    pytest.importorskip("matplotlib")
    plot = FOUND.plot()
    assert plot.mode == "RGB"
    assert min(plot.size) >= 400
    orange = (255, 127, 14)
    assert sum(count for count, colour in plot.getcolors(2**20) if colour == orange) > 50, "the valley's line"
    png = FOUND._repr_png_()
    assert png is not None
    with Image.open(io.BytesIO(png)) as shown:
        assert (shown.format, shown.size) == ("PNG", plot.size)


def test_a_loss_that_never_fell_is_drawn_all_the_same() -> None:
    pytest.importorskip("matplotlib")
    risen = Rates((1e-3, 1e-2), (1.0, 3.0), 1e-3, 1e-2)
    assert risen._figure().axes[0].get_ylim()[1] > 3


def test_without_matplotlib_it_says_what_to_install_and_a_notebook_shows_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r'pip install "gangen\[plots\]"'):
        FOUND.plot()
    assert FOUND._repr_png_() is None
    assert repr(FOUND) == "Rates(valley=0.001, steepest=0.01)"

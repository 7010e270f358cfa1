"""What happens to pictures before they are met in practice: Real-ESRGAN's degradations of second order."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from gangen.data.degrade.basic import FILTERS, Blur, Jpeg, Noise, Resize, Shuffled, check_scale, reduced
from gangen.data.degrade.chance import happens, one_of

SECOND_BLUR = 0.8
"""Share of pictures that are blurred a second time."""


@dataclass(frozen=True)
class Practical:
    """Blur, noise, JPEG and a change of size, in random order, twice; then to 1/scale of the size.

    Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833, section 3) with the ranges of its section 4.1. It differs in
    three points: the order within each round is drawn, as in BSRGAN (Zhang et al. 2021, arXiv:2103.14006), of the
    kernels only the Gaussian ones are there, in the paper's proportion, and no sinc filters.

    It is computed for each sample by itself, in a worker. On the joined batch most steps take less time (see
    `benchmarks/data.py`), but all pictures would have to go through the same sizes in the same order, so that a
    sample would depend on its batch.

    Attributes:
        scale: by what the sides are divided at last; 1 for restoration at the same size.

    Raises:
        DataError: the scale is below 1, or, when it is called, a side is no multiple of it.
    """

    scale: int = 1

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """(W, H) to (W / scale, H / scale)."""
        small = reduced(picture, self.scale)
        first = Shuffled((Blur(), Resize(), Noise(), Jpeg()))
        # The second round's sizes are told by that of the result.
        resize = Resize(small, smaller=(0.3, 1.0), larger=(1.0, 1.2), chances=(0.3, 0.4, 0.3))
        noise = Noise(gaussian=(1.0, 25.0), poisson=(0.05, 2.5))
        blur = (Blur(sigma=(0.2, 1.5)),) if happens(SECOND_BLUR) else ()
        second = Shuffled((*blur, resize, noise, Jpeg()))
        return second(first(picture)).resize(small, one_of(FILTERS))

"""A network that answers with one vector for a whole picture: a body, with a head in place of the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gangen.errors import UserError
from gangen.nets import freezing
from gangen.nets.body import Body
from gangen.nets.configs import described, expect_keys, own_name
from gangen.nets.unet import FeatureBody


class Classifier(nn.Module):
    """Picture in, one logit for each class out; or any other vector, such as an embedding.

    The body's coarsest maps are averaged over all places (Lin et al. 2013, arXiv:1312.4400) and weighed by one
    linear layer, as in the ResNets themselves. Pictures may have any height and width from one pixel up.

    Args:
        body: gives the feature maps.
        classes: length of the answer.
        dropout: share of the averaged features that is dropped while training, from 0 up to below 1.

    Raises:
        UserError: `classes` or `dropout` is impossible.
    """

    def __init__(self, body: FeatureBody, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
            raise UserError(f"a classifier of {classes!r} classes is impossible; give a whole number from 1 up.")
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise UserError(f"a dropout of {dropout!r} is out of range; give 0 up to below 1.")
        self.body = body
        self.config: dict[str, Any] = {
            "body": body.config if isinstance(body, Body) else own_name(body),
            "classes": classes,
            "dropout": dropout,
        }
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(body.channels[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, C, H, W) in [-1, 1] to logits (N, classes)."""
        return self.head(self.body(x)[-1].mean(dim=(2, 3)))

    def train(self, mode: bool = True) -> Classifier:
        """Set train or eval mode; the statistics of frozen parts stay still."""
        super().train(mode)
        freezing.keep_frozen_still(self)
        return self

    @classmethod
    def from_config(cls, config: Mapping[str, Any], body: FeatureBody | None = None) -> Classifier:
        """The architecture that a classifier's `config` describes, with random weights; see `UNet.from_config`."""
        expect_keys("a classifier", config, ("body", "classes", "dropout"))
        own = body or Body(**described("body", config["body"], ("arch", "in_channels")))
        return cls(own, config["classes"], dropout=config["dropout"])

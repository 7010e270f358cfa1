"""Networks that answer with one vector, for a picture or for two: a body, with a head in place of the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gangen.errors import UserError
from gangen.layout import laid_out
from gangen.nets import freezing
from gangen.nets.body import Body
from gangen.nets.configs import described, expect_keys, own_name
from gangen.nets.heads import ClassHead, class_head
from gangen.nets.unet import FeatureBody


class Classifier(nn.Module):
    """Picture in, one logit for each class out; or any other vector, such as an embedding.

    Pictures may have any height and width from one pixel up.

    Args:
        body: gives the feature maps, of which the coarsest are looked at.
        head: makes them into the answer.
    """

    def __init__(self, body: FeatureBody, head: ClassHead) -> None:
        super().__init__()
        self.body = body
        self.config = _config(body, head)
        self.pool = head.pool()
        self.head = head.layers(head.features(body.channels[-1]))

    @laid_out
    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, C, H, W) in [-1, 1] to answers (N, outputs)."""
        return self.head(self.pool(self.body(x)[-1]))

    def train(self, mode: bool = True) -> Classifier:
        """Set train or eval mode; the statistics of frozen parts stay still."""
        super().train(mode)
        freezing.keep_frozen_still(self)
        return self

    @classmethod
    def from_config(cls, config: Mapping[str, Any], body: FeatureBody | None = None) -> Classifier:
        """The architecture that a classifier's `config` describes, with random weights; see `UNet.from_config`."""
        return cls(*_parts("a classifier", config, body))


class Siamese(nn.Module):
    """Two pictures in, what they have to do with each other out: such as logits for "different" and "same".

    Both pass through one body (Bromley et al. 1993, "Signature verification using a siamese time delay neural
    network"). Every map of the body is pooled and brought to one length, since what two pictures have in common
    may be fine as well as coarse; features are joined as |a - b| and a * b, so that the order does not matter.

    Args:
        body: gives the feature maps of each picture, all of which are looked at.
        head: makes the joined features into the answer.
    """

    def __init__(self, body: FeatureBody, head: ClassHead) -> None:
        super().__init__()
        self.body = body
        self.config = _config(body, head)
        self.pool = head.pool()
        self.head = head.layers(2 * sum(head.features(count) for count in body.channels))

    @laid_out
    def forward(self, x: Tensor) -> Tensor:
        """Pairs (N, 2 C, H, W) in [-1, 1], one picture's channels after the other's, to answers (N, outputs).

        Raises:
            UserError: the channels are not those of two pictures.
        """
        channels = self.body.in_channels
        if x.shape[1] != 2 * channels:
            raise UserError(
                f"{x.shape[1]} channels are no pair of pictures of {channels}; join them: torch.cat([a, b], 1)."
            )
        # One forward for both: BatchNorm sees them together, as it will in no order afterwards.
        maps = self.body(x.reshape(-1, channels, *x.shape[2:]))
        features = torch.cat([_to_one_length(self.pool(each)) for each in maps], dim=1)
        one, other = features.view(len(x), 2, -1).unbind(dim=1)
        return self.head(torch.cat([(one - other).abs(), one * other], dim=1))

    def train(self, mode: bool = True) -> Siamese:
        """Set train or eval mode; the statistics of frozen parts stay still."""
        super().train(mode)
        freezing.keep_frozen_still(self)
        return self

    @classmethod
    def from_config(cls, config: Mapping[str, Any], body: FeatureBody | None = None) -> Siamese:
        """The architecture that a Siamese network's `config` describes, with random weights."""
        return cls(*_parts("a Siamese network", config, body))


def _to_one_length(features: Tensor) -> Tensor:
    """(N, F) with a mean square of 1 in each row, whatever F is."""
    return F.normalize(features, dim=1) * features.shape[1] ** 0.5


def _config(body: FeatureBody, head: ClassHead) -> dict[str, Any]:
    return {"body": body.config if isinstance(body, Body) else own_name(body), "head": head.config}


def _parts(what: str, config: Mapping[str, Any], body: FeatureBody | None) -> tuple[FeatureBody, ClassHead]:
    expect_keys(what, config, ("body", "head"))
    own = body or Body(**described("body", config["body"], ("arch", "in_channels")))
    return own, class_head(config["head"])

"""Networks for tests."""

from torch import nn


def opinionated(net):
    """A `Classifier` or `Siamese` with chance weights in its last layer, which begins at zero."""
    nn.init.normal_([layer for layer in net.head if isinstance(layer, nn.Linear)][-1].weight, std=0.05)
    return net

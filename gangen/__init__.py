"""gangen: train networks that turn one picture into another."""

__version__ = "0.1.0"

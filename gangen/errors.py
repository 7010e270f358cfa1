"""Errors that a person can act on: each names the file or value, what was expected, and the remedy.

Recipes and the command line print them without a traceback. Everything else that is raised is a defect of
gangen (or of the code that uses it) and keeps its traceback.
"""


class UserError(ValueError):
    """Base of the errors whose cause is input, flags or the machine rather than code."""


class DataError(UserError):
    """A folder, a pair or a size that cannot be trained on."""


class PictureError(DataError):
    """A single picture that cannot be read."""


class StorageError(PictureError):
    """Storage or memory that failed while a picture was read, which says nothing against the picture."""


class WeightsError(UserError):
    """A weights file that is missing, unreadable or made for another network."""


class RunError(UserError):
    """A run folder that cannot be created, written, resumed or read."""


class ProtocolError(UserError):
    """Two numbers that were measured in unlike ways and so cannot be compared."""

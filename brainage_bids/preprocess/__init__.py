"""The room of preprocessing: a scan and a grid in, a volume on disk out.

The package is also the function `brainage_bids.preprocess` of the public API: it can be called. Python makes a package
an attribute of the one it lies in as soon as anything in it is imported, so that a plain function of that name would be
there before the first import and gone after it.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import brainage_bids


class _Room(ModuleType):
    """A package that passes calls, and questions for its documentation, to the function of its name."""

    @property
    def __wrapped__(self) -> Callable:  # where `inspect.signature` looks
        return brainage_bids._public("preprocess")

    @property
    def __doc__(self) -> str | None:  # what `help` shows
        return self.__wrapped__.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


sys.modules[__name__].__class__ = _Room

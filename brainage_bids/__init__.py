"""brainage-bids: brain age, brain age gap and Grad-RAM maps from T1-weighted MRI in BIDS.

The public Python API is what ``__all__`` lists; docs/api.md shows each function. A name is imported when it is first
used, so that ``import brainage_bids`` costs nothing: neither numpy nor torch is loaded.
"""

TYPE_CHECKING = False  # type checkers take it for True; to import it from typing would cost every start
if TYPE_CHECKING:
    from brainage_bids.api import gradram as gradram
    from brainage_bids.api import load_model as load_model
    from brainage_bids.api import predict as predict
    from brainage_bids.api import preprocess as preprocess
    from brainage_bids.api import read_dataset as read_dataset
    from brainage_bids.api import train_model as train_model
    from brainage_bids.model.losses import rank_n_contrast as rank_n_contrast
    from brainage_bids.stats.accuracy import accuracy as accuracy
    from brainage_bids.stats.accuracy import model_comparison as model_comparison
    from brainage_bids.stats.bias import correct_with_calibration as correct_with_calibration
    from brainage_bids.stats.cohort_tables import select_rows as select_rows
    from brainage_bids.stats.correlate import correlations as correlations
    from brainage_bids.stats.groups import group_differences as group_differences
    from brainage_bids.stats.longitudinal import longitudinal as longitudinal
    from brainage_bids.stats.region_contrasts import region_differences as region_differences
    from brainage_bids.stats.reliability import reliability as reliability
    from brainage_bids.stats.roc import roc as roc

__version__ = "0.1.0"
__all__ = [  # in the order of the work  # noqa: RUF022
    "read_dataset",
    "preprocess",
    "train_model",
    "load_model",
    "predict",
    "gradram",
    "rank_n_contrast",
    "select_rows",
    "correct_with_calibration",
    "accuracy",
    "model_comparison",
    "group_differences",
    "correlations",
    "roc",
    "longitudinal",
    "reliability",
    "region_differences",
]

_HOMES = {
    "rank_n_contrast": "model.losses",
    "select_rows": "stats.cohort_tables",
    "correct_with_calibration": "stats.bias",
    "accuracy": "stats.accuracy",
    "model_comparison": "stats.accuracy",
    "group_differences": "stats.groups",
    "correlations": "stats.correlate",
    "roc": "stats.roc",
    "longitudinal": "stats.longitudinal",
    "reliability": "stats.reliability",
    "region_differences": "stats.region_contrasts",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "preprocess":  # also the name of a package, which can be called: see its first lines
        from importlib import import_module

        return import_module(f"{__name__}.preprocess")
    globals()[name] = found = _public(name)  # the next time it is simply there
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _public(name: str) -> object:
    """Return a function of the API."""
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)

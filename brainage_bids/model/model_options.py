"""What the user may choose about computing: one frozen record, made by the command line. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from brainage_bids.errors import UsageError
from brainage_bids.schema import DEFAULT_SEED

SAVE_EVERY = 300.0  # seconds between two checkpoints: a few minutes lost are cheaper than gigabytes in every epoch
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelOptions:
    """Choices of the command line; None leaves the recipe's value.

    Parameters
    ----------
    device
        ``auto`` (CUDA when there), or a torch device such as ``cpu``, ``cuda``, ``cuda:1``.
    precision
        ``auto`` (bfloat16 on CUDA cards that support it), ``float32``, ``bfloat16`` or ``float16`` (autocast, the last
        with scaled gradients). Losses and heads stay in float32 or better.
    batch_size, epochs
        Of the main stage; the epochs of the head stage shrink in proportion, down to its least number of steps.
    folds
        Train this many networks, each holding one fold of the participants out; or the name of a column: one network
        for each of its values, trained without the people who have it.
    ensemble
        Train so many networks a fold, which differ in their random numbers; their mean is the answer.
    seed
        Of splits, weights and augmentation.
    threads
        CPU threads of torch; None: one for each fold, else torch's own choice.
    workers
        Folds that train, or predict, at the same time on the CPU. Those that train share the memory: where it is short,
        each takes a batch in more chunks (see `gradient_cache`); else their number changes nothing.
    progress
        Show a progress bar.
    chunk_size
        Views (images) of a batch that the network takes at once; None: as many as fit, at best the whole batch.
    recompute
        Keep no activations inside the blocks of the network but compute them twice: less memory, a third more time.
    compile
        Compile the network (`torch.compile`): minutes at the start, faster steps on a GPU.
    memory
        Bytes of the machine's memory to stay under; None: what is free.
    test
        Predict the test people of a model without folds at the end; a study of hyperparameters must not.
    save_every
        Seconds between two checkpoints of a training.
    overrides
        Values of recipe keys, ``section.key=value``, as asked for on the command line.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    epochs: int | None = None
    folds: int | str | None = None
    ensemble: int = 1
    seed: int = DEFAULT_SEED
    threads: int | None = None
    workers: int = 1
    progress: bool = True
    chunk_size: int | None = None
    recompute: bool = False
    compile: bool = False
    memory: float | None = None
    test: bool = True
    save_every: float = SAVE_EVERY
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 2),
            ("epochs", 1),
            ("folds", 2),
            ("ensemble", 1),
            ("threads", 1),
            ("workers", 1),
            ("chunk_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and value < least:
                raise UsageError(f"{name} is {value}; it must be at least {least}")
        if self.compile and self.recompute:
            raise UsageError("--compile and --activation-checkpointing do not work together; leave one out")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is '{self.precision}'; choose one of {', '.join(PRECISIONS)}")

"""Program of `test_distributed`: train a recipe on a table of volumes, alone or as one of the processes of torchrun."""

import sys
from pathlib import Path

import pandas as pd

from brainage_bids.bids.files import read_json
from brainage_bids.model.model_options import ModelOptions
from brainage_bids.model.recipe import Recipe
from brainage_bids.model.train import train_model
from brainage_bids.model.trainer import joined_training


def main():
    """Arguments: folder with ``table.pkl`` and ``recipe.json``, name of the model to write there, more options."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    options = ModelOptions(device="cpu", progress=False, threads=1, **read_json(folder / "options.json"))
    recipe = Recipe.from_dict(read_json(folder / "recipe.json"))
    with joined_training(options) as distributed:
        if distributed.is_main:
            train_model(pd.read_pickle(folder / "table.pkl"), recipe, folder / name, folder / f"{name}-work", options,
                        distributed=distributed)  # fmt: skip


if __name__ == "__main__":
    main()

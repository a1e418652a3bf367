"""`hf_trainer` with other arguments of the trainer's own: `python trainer.py NAME=VALUE … -- OPTIONS`."""

import ast
import sys

import lossproof_adapters  # noqa: F401: before anything that prints
from lossproof_adapters import hf_trainer

if __name__ == "__main__":
    at = sys.argv.index("--")
    pairs = dict(pair.split("=", 1) for pair in sys.argv[1:at])
    given = {name: ast.literal_eval(value) for name, value in pairs.items()}
    sys.argv[1 : at + 1] = []
    settings = hf_trainer.settings
    hf_trainer.settings = lambda folder, batch: settings(folder, batch) | given
    hf_trainer.main()

"""Adapters that hold a trainer in Python to the laws of loss and backprop semantics, behind lossproof's judge.

A plain PyTorch module and loop need a function that does the forward and backward passes of one optimizer step::

    from lossproof_adapters import TorchTrainer, run

    def step(model, batch):
        loss = 0.0
        for micro_batch in batch.micro_batches:
            mean = my_loss(model, micro_batch.padded()) / len(batch.micro_batches)
            mean.backward()
            loss += mean.item()
        return loss

    run(TorchTrainer(my_model, step, claims="naive-accumulated-mean", vocabulary=61, positions=64))

and are judged by ``lossproof laws --adapter "python my_adapter.py"``.
"""

import os

from . import protocol

if os.environ.get("LOSSPROOF_ADAPTER"):
    # Before anything that is imported later prints.
    protocol.channels()

from .batch import IGNORE_INDEX, Batch, MicroBatch, Sequence
from .card import CLAIMS, Limits, claim
from .protocol import EmptyGroup, OtherTraining, Refused, Unsupported
from .run import Adapter, run
from .training import EpochEnd, TrainingLoop, TrainingPlan, Update, Validation

__all__ = [
    "Adapter",
    "Batch",
    "CLAIMS",
    "EmptyGroup",
    "EpochEnd",
    "IGNORE_INDEX",
    "Limits",
    "MicroBatch",
    "OtherTraining",
    "Refused",
    "Sequence",
    "TorchTrainer",
    "TrainingLoop",
    "TrainingPlan",
    "Unsupported",
    "Update",
    "Validation",
    "claim",
    "run",
]


def __getattr__(name):
    # Without torch all the rest is there.
    if name == "TorchTrainer":
        from .torch_trainer import TorchTrainer

        return TorchTrainer
    raise AttributeError(name)

"""Adapters that hold a trainer in Python to the laws of loss and backprop semantics, behind lossproof's judge.

A plain PyTorch module and loop need a function that does the forward and backward passes of one optimizer step::

    import torch
    from lossproof_adapters import TorchTrainer, run
    from lossproof_adapters.torch_trainer import padded

    torch.set_num_threads(1)  # as long as the model is small, more threads wait for each other

    def step(model, batch):
        loss = 0.0
        for micro_batch in batch.micro_batches:
            rows = padded(micro_batch)  # input_ids, labels and attention_mask as tensors
            share = my_summed_loss(model, rows) / max(batch.supervised, 1)
            share.backward()
            loss += share.item()
        return loss

    run(TorchTrainer(my_model, step, claims="token-mean", vocabulary=61, positions=32))

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

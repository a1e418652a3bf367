"""What the ready adapters have in common: a small model of Hugging Face's, and a function that makes one step of it."""

import argparse

import torch

from .card import Limits
from .models import MODELS, POSITIONS, VOCABULARY, model
from .run import run
from .torch_trainer import SteppedTrainer, causal_logits

#: Batches in which every label is a token and none is ignored, so that every micro-batch has one.
UNMASKED = Limits(VOCABULARY, POSITIONS, lengths=(2, POSITIONS), ignore_index=False, free_labels=False)


def ready(program, description, train, *, title, version, limits=None, log_policy="window"):
    """Answers for a trainer whose `train(model, batch)` makes one step of plain SGD at rate 1."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--model", choices=sorted(MODELS), default="gpt2", help="the class of the model")
    arguments = parser.parse_args()
    run(
        SteppedTrainer(
            model(arguments.model),
            train,
            claims="token-mean",
            limits=limits or Limits(VOCABULARY, POSITIONS),
            logits=causal_logits,
            name=f"{title}, {arguments.model}",
            version=version,
            log_policy=log_policy,
            # The models' causal loss casts logits to float32.
            loss_dtype=torch.float32,
        )
    )

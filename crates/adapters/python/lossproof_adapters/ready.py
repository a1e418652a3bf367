"""What the ready adapters have in common: a small model of Hugging Face's, and a function that makes one step of it."""

import argparse
import dataclasses
import gc

import torch

from .card import CLAIMS, Limits
from .models import MODELS, POSITIONS, VOCABULARY, model
from .ranks import over_ranks
from .run import run
from .torch_trainer import SteppedTrainer, causal_logits

#: Batches in which every label is a token and none is ignored, so that every micro-batch has one.
UNMASKED = Limits(VOCABULARY, POSITIONS, lengths=(2, POSITIONS), ignore_index=False, free_labels=False)


#: What is other where the loader of a trainer deals the micro-batches out to ranks: each has equally many.
DEALT = {"micro_batches": 2}


def ready(
    program,
    description,
    train,
    *,
    title,
    version,
    training=None,
    limits=None,
    log_policy="window",
    ranks=None,
):
    """Answers for a trainer whose `train(model, batch)` makes one step of plain SGD at rate 1, and whose
    `training` is its own loop, where it has one. Where it has ranks, `ranks` says in which limits and in which
    log policy it is another over them than on one, and how many there are unless one says."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--model", choices=sorted(MODELS), default="gpt2", help="the class of the model")
    parser.add_argument("--length", type=int, metavar="N", help="only sequences of N tokens, as blocks of text are")
    claims = {"choices": sorted(CLAIMS), "default": "token-mean", "help": "the loss that it is held to"}
    parser.add_argument("--claim", **claims)
    over = dict(ranks or {})
    if ranks is not None:
        what = "batches of up to N ranks, each a process under torchrun"
        parser.add_argument("--ranks", type=int, metavar="N", default=over.pop("ranks", None), help=what)
    arguments = parser.parse_args()
    limits = limits or Limits(VOCABULARY, POSITIONS)
    if arguments.length:
        limits = dataclasses.replace(limits, lengths=arguments.length)
    most = getattr(arguments, "ranks", None)
    if most:
        log_policy = over.pop("log_policy", log_policy)
        limits = dataclasses.replace(limits, ranks=(1, most), **over)
    # Models are small, and trainings many: more threads would wait for each other, and trainers collect garbage before
    # each, most of which was there before the first.
    torch.set_num_threads(1)
    judged = model(arguments.model)
    gc.freeze()
    if most:
        train = over_ranks(judged, train, training)
        training = train.training
    run(
        SteppedTrainer(
            judged,
            train,
            claims=arguments.claim,
            limits=limits,
            logits=causal_logits,
            training=training,
            name=f"{title}, {arguments.model}",
            version=version,
            log_policy=log_policy,
            # The models' causal loss casts logits to float32.
            loss_dtype=torch.float32,
        )
    )

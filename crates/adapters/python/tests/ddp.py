"""The module of plain.py under `DistributedDataParallel`, on up to two ranks: `python ddp.py [MISTAKE]`.

It takes the mean over all supervised tokens of a step: each rank adds its losses up, divides them by the tokens
of all ranks, and multiplies by the number of ranks, since gradients are averaged over them. In a training the
micro-batches are dealt out to the ranks, and one that gets none takes part with a loss of nothing.
"""

import dataclasses
import os
import signal
import sys
import time

import plain
import torch
from lossproof_adapters import IGNORE_INDEX, Batch, EpochEnd, Limits, MicroBatch, Refused, TrainingLoop, Update, run
from lossproof_adapters.ranks import over_ranks
from lossproof_adapters.torch_trainer import SteppedTrainer, padded
from torch.nn.parallel import DistributedDataParallel

MISTAKE = (sys.argv[1:] or [None])[0]


def step(model, batch, rate=1.0):
    """One step of plain SGD; the loss of all ranks."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if rank == 1:
        misbehave()
    # A training makes one step after another of one module.
    model.zero_grad()
    parallel, micro_batches = DistributedDataParallel(model), batch[rank]
    if not micro_batches:
        row = batch[0][0][0]
        ignored = [IGNORE_INDEX] * len(row.labels)
        micro_batches = [MicroBatch([dataclasses.replace(row, labels=ignored)])]
    tokens = torch.tensor(sum(micro_batch.supervised for micro_batch in micro_batches))
    if MISTAKE != "own-tokens":
        torch.distributed.all_reduce(tokens)
    divisor = max(tokens.item(), 1) / (1 if MISTAKE in ("own-tokens", "not-undone") else ranks)
    total = torch.tensor(0.0, dtype=torch.float64)
    for number, micro_batch in enumerate(micro_batches, 1):
        parallel.require_backward_grad_sync = number == len(micro_batches)
        loss = sum_of_losses(parallel, micro_batch) / divisor
        loss.backward()
        total += loss.detach()
    torch.distributed.all_reduce(total)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    if MISTAKE == "parts" and rank == 1:
        next(model.parameters()).grad[0, 0] += 1e-15
    optimizer.step()
    return total.item() / ranks


class Loop(TrainingLoop):
    """One order for all ranks, whose micro-batches are dealt out."""

    takes = frozenset({"sgd", "accumulation"})

    def train(self, model, plan, stop_after):
        rank = int(os.environ["RANK"])
        chance = torch.Generator().manual_seed(plan.seed + (rank if MISTAKE == "own-order" else 0))
        for _ in range(plan.epochs):
            order = torch.randperm(len(plan.training), generator=chance).tolist()
            micro_batches = [order[at : at + plan.batch] for at in range(0, len(order), plan.batch)]
            size = plan.accumulate * plan.ranks
            for at in range(0, len(micro_batches), size):
                dealt = [micro_batches[at : at + size][of :: plan.ranks] for of in range(plan.ranks)]
                step(model, of_samples(dealt, plan), plan.learning_rate)
                yield Update([[one] for one in dealt[rank]], model.named_parameters())
            yield EpochEnd()


def of_samples(dealt, plan):
    """The batch of the samples that were dealt out."""
    return Batch([[MicroBatch(plan.training[i] for i in one) for one in of_rank] for of_rank in dealt])


def sum_of_losses(model, micro_batch):
    """The sum of the losses of its supervised tokens."""
    rows = padded(micro_batch)
    logits, labels = model(rows["input_ids"])[:, :-1], rows["labels"][:, 1:]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, plain.VOCABULARY), labels.reshape(-1), reduction="sum"
    )


def misbehave():
    """What becomes of rank 1."""
    if MISTAKE == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif MISTAKE == "hangs":
        time.sleep(3600)
    elif MISTAKE == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif MISTAKE == "refuses":
        raise Refused("not here")
    elif MISTAKE == "raises":
        raise ValueError("no luck")


if __name__ == "__main__":
    model = plain.Model().double()
    limits = Limits(plain.VOCABULARY, 16, ranks=(1, 2))
    ranks = over_ranks(model, step, Loop())
    card = {"limits": limits, "logits": plain.logits, "training": ranks.training, "name": "ddp"}
    run(SteppedTrainer(model, ranks, **card))

"""A loop over PyTorch's `DistributedDataParallel` behind the judge: ``python -m lossproof_adapters.ddp_loop``.

In words of our own, as tutorials have it: each rank takes the mean of each of its micro-batches, divides it by
their number, and has the gradient averaged over ranks with the last one. The step is plain SGD at rate 1, so
that what it takes off the parameters is the gradient.
"""

import contextlib

import torch
import transformers
from torch.nn.parallel import DistributedDataParallel

from .ready import UNMASKED, ready
from .torch_trainer import padded


def train(model, batch):
    """One optimizer step; the mean of the losses of this rank's micro-batches."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=1.0)
    micro_batches = batch[torch.distributed.get_rank()]
    total = 0.0
    for number, micro_batch in enumerate(micro_batches, 1):
        waits = number < len(micro_batches)
        with parallel.no_sync() if waits else contextlib.nullcontext():
            loss = parallel(**padded(micro_batch)).loss / len(micro_batches)
            loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def main():
    """Answers for the loop."""
    transformers.logging.set_verbosity_error()
    ready(
        "lossproof_adapters.ddp_loop",
        __doc__,
        train,
        title="DDP loop",
        version=torch.__version__,
        # A mean over no label is NaN.
        limits=UNMASKED,
        # What a rank prints is its own.
        ranks={"ranks": 2, "log_policy": "first-rank"},
    )


if __name__ == "__main__":
    main()

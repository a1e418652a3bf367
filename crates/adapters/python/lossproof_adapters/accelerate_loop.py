"""The loop of run_clm_no_trainer on accelerate, behind the judge: ``python -m lossproof_adapters.accelerate_loop``.

In words of our own: `accelerator.accumulate`, the model's own loss, `accelerator.backward`, one optimizer step. It is
plain SGD at rate 1, so that what it takes off the parameters is the gradient.
"""

import accelerate
import torch
from torch.utils.data import DataLoader

from .hf_trainer import MicroBatches, collate
from .ready import UNMASKED, ready


def train(model, batch):
    """One optimizer step; the mean of the losses of its micro-batches, as the script tracks them."""
    # One accelerator is shared by all that are made; the number of micro-batches is this batch's.
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    count = len(batch.micro_batches)
    accelerator = accelerate.Accelerator(gradient_accumulation_steps=count, cpu=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(MicroBatches(batch), batch_size=1, collate_fn=collate)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    prepared.train()
    total = 0.0
    for rows in loader:
        with accelerator.accumulate(prepared):
            loss = prepared(**rows).loss
            total += loss.detach().item()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    return total / count


def main():
    """Answers for the loop."""
    ready(
        "lossproof_adapters.accelerate_loop",
        __doc__,
        train,
        title="accelerate loop",
        version=accelerate.__version__,
        # The script's labels are its tokens.
        limits=UNMASKED,
        log_policy="mean-of-micro-batches",
    )


if __name__ == "__main__":
    main()

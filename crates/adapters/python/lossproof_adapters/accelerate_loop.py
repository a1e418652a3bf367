"""The loop of run_clm_no_trainer on accelerate, behind the judge: ``python -m lossproof_adapters.accelerate_loop``.

In words of our own: `accelerator.accumulate`, the model's own loss, `accelerator.backward`, one optimizer step. It is
plain SGD at rate 1, so that what it takes off the parameters is the gradient.
"""

import argparse

import accelerate
import torch
from torch.utils.data import DataLoader

from .card import Limits
from .hf_trainer import MicroBatches, collate
from .models import MODELS, POSITIONS, VOCABULARY, model
from .run import run
from .torch_trainer import SteppedTrainer, causal_logits


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
    parser = argparse.ArgumentParser(prog="python -m lossproof_adapters.accelerate_loop", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="gpt2", help="the class of the model")
    arguments = parser.parse_args()
    run(
        SteppedTrainer(
            model(arguments.model),
            train,
            claims="token-mean",
            # The script's labels are its tokens, and none is ignored.
            limits=Limits(
                VOCABULARY, POSITIONS, lengths=(2, POSITIONS), ignore_index=False, free_labels=False
            ),
            logits=causal_logits,
            name=f"accelerate loop, {arguments.model}",
            version=accelerate.__version__,
            log_policy="mean-of-micro-batches",
            # The models' causal loss casts logits to float32.
            loss_dtype=torch.float32,
        )
    )


if __name__ == "__main__":
    main()

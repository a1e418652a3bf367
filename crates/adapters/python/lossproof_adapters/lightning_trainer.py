"""Lightning's `Trainer` as it was released, behind the judge: ``python -m lossproof_adapters.lightning_trainer``.

A module returns the model's own loss, and the trainer accumulates it over the micro-batches of a step. The step is
plain SGD at rate 1, so that what it takes off the parameters is the gradient.
"""

import logging
import warnings

import lightning
import torch
from torch.utils.data import DataLoader

from .hf_trainer import MicroBatches, collate
from .ready import UNMASKED, ready


class Module(lightning.LightningModule):
    """A model that returns its own loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.losses = []

    def training_step(self, rows, _):
        loss = self.model(**rows).loss
        self.losses.append(loss.detach().item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.model.parameters(), lr=1.0)


def train(model, batch):
    """One optimizer step; the mean of the losses of its micro-batches."""
    module = Module(model)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=len(batch.micro_batches),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(MicroBatches(batch), batch_size=1, collate_fn=collate))
    return sum(module.losses) / len(module.losses)


def main():
    """Answers for the trainer."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    ready(
        "lossproof_adapters.lightning_trainer",
        __doc__,
        train,
        title="Lightning Trainer",
        version=lightning.__version__,
        # A loss over no label is NaN in PyTorch, whatever the trainer makes of it.
        limits=UNMASKED,
        log_policy="mean-of-micro-batches",
    )


if __name__ == "__main__":
    main()

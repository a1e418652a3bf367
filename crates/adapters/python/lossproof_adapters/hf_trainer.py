"""transformers' `Trainer` as it was released, behind the judge: ``python -m lossproof_adapters.hf_trainer``.

One batch is one optimizer step of the trainer's own loop: its data loader, its accumulation, its count of tokens and
its loss. The step is plain SGD at rate 1, so that what it takes off the parameters is the gradient. A whole training is
:mod:`lossproof_adapters.hf_loop`'s. With ``--ranks N`` the step is made by up to N processes under torchrun.
"""

import tempfile

import torch
import transformers
from torch.utils.data import Dataset, SequentialSampler

from .hf_loop import HfTraining
from .ready import DEALT, UNMASKED, ready
from .torch_trainer import padded


class MicroBatches(Dataset):
    """The micro-batches of a batch: a loader with one element in a batch has those of any sizes. They stand in
    the order in which loaders deal them out to ranks, one to each and then the next."""

    def __init__(self, batch):
        self.micro_batches = [one for dealt in zip(*batch, strict=True) for one in dealt]

    def __len__(self):
        return len(self.micro_batches)

    def __getitem__(self, index):
        return self.micro_batches[index]


def collate(elements):
    """The rows of one micro-batch, padded at the right, as `DataCollatorForSeq2Seq` pads them."""
    return padded(elements[0])


class InOrder(transformers.Trainer):
    """The sequences in the order of the batch. Nothing else of the trainer is changed."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


def settings(folder, batch):
    """The arguments of a trainer that makes one step of a batch and nothing else."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": len(batch[0]),
        "max_steps": 1,
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


def train(model, batch):
    """One optimizer step; the loss that the trainer reports of it."""
    with tempfile.TemporaryDirectory() as folder:
        # What is logged is gathered from all ranks; what was not logged by the end is that of this one.
        arguments = transformers.TrainingArguments(**{"logging_steps": 1} | settings(folder, batch))
        trainer = InOrder(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=MicroBatches(batch),
            optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None),
        )
        return trainer.train().training_loss


#: Whether it counts the tokens of a step at all, as it does since 4.46.
COUNTS = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (4, 46)


def main():
    """Answers for the trainer."""
    transformers.logging.set_verbosity_error()
    # Where it does not count, a micro-batch without a label has a loss of NaN: it is given none.
    card = {} if COUNTS else {"limits": UNMASKED, "log_policy": "mean-of-micro-batches"}
    card |= {"title": "transformers Trainer", "version": transformers.__version__, "training": HfTraining()}
    ready("lossproof_adapters.hf_trainer", __doc__, train, ranks=DEALT, **card)


if __name__ == "__main__":
    main()

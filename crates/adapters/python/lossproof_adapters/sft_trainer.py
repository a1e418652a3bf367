"""TRL's `SFTTrainer` as it was released, behind the judge: ``python -m lossproof_adapters.sft_trainer``.

The micro-batches come as they are, past its preparation of data: what is judged is its loss and its accumulation. The
step is plain SGD at rate 1, so that what it takes off the parameters is the gradient.
"""

import tempfile

import datasets
import torch
import transformers
import trl
from torch.utils.data import SequentialSampler

from .batch import MicroBatch, Sequence
from .hf_trainer import settings
from .models import VOCABULARY
from .ready import ready
from .torch_trainer import padded


def dataset(batch):
    """The micro-batches of a batch, one in each row."""
    rows = []
    for micro_batch in batch.micro_batches:
        rows.append({name: [getattr(row, name) for row in micro_batch] for name in ("input_ids", "labels")})
    return datasets.Dataset.from_list(rows)


def collate(elements):
    """The rows of one micro-batch, padded at the right."""
    element = elements[0]
    return padded(MicroBatch(map(Sequence, element["input_ids"], element["labels"])))


class InOrder(trl.SFTTrainer):
    """The micro-batches in the order of the batch, prepared already. Nothing else of the trainer is changed."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset


def train(model, batch):
    """One optimizer step; the loss that the trainer reports of it."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(**settings(folder, batch), gradient_checkpointing=False, bf16=False)
        trainer = InOrder(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=dataset(batch),
            processing_class=tokenizer(),
            optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None),
        )
        return trainer.train().training_loss


def tokenizer():
    """A tokenizer that nobody asks anything."""
    from tokenizers import Tokenizer, models

    words = {f"<{token}>": token for token in range(VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token="<0>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<0>", eos_token="<0>")


def main():
    """Answers for the trainer."""
    transformers.logging.set_verbosity_error()
    version = f"{trl.__version__} on transformers {transformers.__version__}"
    ready("lossproof_adapters.sft_trainer", __doc__, train, title="TRL SFTTrainer", version=version)


if __name__ == "__main__":
    main()

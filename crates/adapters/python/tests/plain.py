"""A plain PyTorch module and loop behind the judge, as docs/adapters.md has it: `python plain.py [wrong]`."""

import sys

import torch
from lossproof_adapters import TorchTrainer, run
from lossproof_adapters.torch_trainer import padded

torch.manual_seed(0)
VOCABULARY, WIDTH = 13, 8


class Model(torch.nn.Module):
    """Two layers that see one token: a language model without attention."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.lm_head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, input_ids):
        return self.lm_head(self.norm(self.embed_tokens(input_ids)))


def step(model, batch, wrong="wrong" in sys.argv):
    """The mean over all supervised tokens of a step, or with a mistake the mean of the means of its micro-batches."""
    loss = 0.0
    for micro_batch in batch.micro_batches:
        rows = padded(micro_batch)
        logits, labels = model(rows["input_ids"])[:, :-1], rows["labels"][:, 1:]
        total = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), labels.reshape(-1), reduction="sum")
        if wrong:
            mean = total / max(micro_batch.supervised, 1) / len(batch.micro_batches)
        else:
            mean = total / max(batch.supervised, 1)
        mean.backward()
        loss += mean.item()
    return loss


def logits(model, micro_batch):
    print("a line on standard output harms nothing")
    return model(padded(micro_batch)["input_ids"])


if __name__ == "__main__":
    run(TorchTrainer(Model().double(), step, vocabulary=VOCABULARY, positions=16, logits=logits, name="plain"))

"""What a loop in PyTorch is given of a plan, and how what it does is seen: the samples of each forward pass, and the
parameters after each update."""

import contextlib

import torch
from torch.utils.data import Dataset

from .batch import IGNORE_INDEX, MicroBatch
from .torch_trainer import padded
from .training import EpochEnd, Sgd, Update, Validation

#: The name under which the numbers of samples go with them from the dataset to the model.
NUMBERS = "sample_numbers"


class Samples(Dataset):
    """The samples of a plan, each with its number."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return index, self.samples[index]


def collate(numbered):
    """Samples as the inputs of a Hugging Face model, padded at the right, and their numbers."""
    numbers, samples = zip(*numbered)
    return {**padded(MicroBatch(samples)), NUMBERS: torch.tensor(numbers)}


class Witness:
    """Sees what a loop does, as a context in which the model takes the numbers of samples beside its inputs: a forward
    pass with a gradient is a micro-batch of an update, one without is part of a validation. What is logged it is told.
    Where there are ranks, each has its own.
    """

    def __init__(self, model):
        self.model, self.events = model, []
        self.micro_batches, self.validated = [], []

    def __enter__(self):
        self.hook = self.model.register_forward_pre_hook(self._forward, with_kwargs=True)
        return self

    def __exit__(self, *_):
        self.hook.remove()

    def _forward(self, _, positional, inputs):
        inputs = dict(inputs)
        numbers = inputs.pop(NUMBERS).tolist()
        if torch.is_grad_enabled():
            self.micro_batches.append([numbers])
        else:
            tokens = (inputs["labels"][:, 1:] != IGNORE_INDEX).sum(dim=1).tolist()
            self.validated += zip(numbers, tokens)
        return positional, inputs

    @property
    def updates(self):
        """Updates that were made."""
        return sum(isinstance(event, Update) for event in self.events)

    def update(self):
        """An update was made, of the micro-batches since the one before."""
        self.events.append(Update(self.micro_batches, self.model.named_parameters()))
        self.micro_batches = []

    def logged(self, **numbers):
        """Numbers are logged for the last update."""
        update = next(event for event in reversed(self.events) if isinstance(event, Update))
        for name, value in numbers.items():
            setattr(update, name, value)

    def validation(self, loss, perplexity):
        """A validation was made, of the tokens that were seen since the one before."""
        tokens = sum(tokens for _, tokens in self.validated)
        self.events.append(Validation(loss, perplexity, tokens, self.validated))
        self.validated = []

    def epoch_end(self, loss=None):
        """An epoch is at its end."""
        self.events.append(EpochEnd(loss))


@contextlib.contextmanager
def planned(model, plan):
    """A context in which the model has the dropout of a plan, and does not train what the plan has frozen."""
    drops = []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            drops.append((module, "p"))
        if isinstance(getattr(module, "attention_dropout", None), float):
            drops.append((module, "attention_dropout"))
    before = [getattr(module, name) for module, name in drops]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    named = dict(model.named_parameters())
    for module, name in drops:
        setattr(module, name, plan.dropout)
    for name in plan.frozen:
        named[name].requires_grad_(False)
    try:
        yield
    finally:
        for (module, name), value in zip(drops, before):
            setattr(module, name, value)
        for parameter in trained:
            parameter.requires_grad_(True)


#: What :func:`optimizer_of` makes.
RULES = frozenset({"sgd", "momentum", "adam", "adam-w", "weight-decay", "decay-of-matrices"})


def optimizer_of(model, plan):
    """PyTorch's optimizer of the rule of a plan, over all that is trained."""
    rule, trained = plan.rule, [values for values in model.parameters() if values.requires_grad]
    if isinstance(rule, Sgd):
        numbers = {"momentum": rule.momentum, "weight_decay": rule.weight_decay}
        return torch.optim.SGD(trained, lr=plan.learning_rate, **numbers)
    kind = torch.optim.AdamW if rule.decoupled else torch.optim.Adam
    groups = [{"params": trained, "weight_decay": rule.weight_decay}]
    if "decay-of-matrices" in plan.uses:
        matrices = [values for values in trained if values.dim() >= 2]
        others = [values for values in trained if values.dim() < 2]
        groups = [{**groups[0], "params": matrices}, {"params": others, "weight_decay": 0.0}]
    betas = rule.beta_1, rule.beta_2
    return kind(groups, lr=plan.learning_rate, betas=betas, eps=rule.epsilon)

"""A plain PyTorch module and a function that trains it."""

import tempfile

import numpy
import torch

from .batch import IGNORE_INDEX
from .card import Limits, claim
from .protocol import OtherTraining
from .run import Adapter

_DTYPES = {torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


def name_of(dtype):
    """The name of an element type in a card."""
    if dtype not in _DTYPES:
        raise ValueError(f"{dtype} is none of {', '.join(map(str, _DTYPES))}: convert the model")
    return _DTYPES[dtype]


def parameters_of(model):
    """The trainable parameters and the others, as a card lists them. A tied parameter appears once."""
    first, trained, frozen = {}, [], []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), {"name": name, "shape": list(parameter.shape)})
        if known["name"] != name:
            known["tied_to"] = name
            continue
        (trained if parameter.requires_grad else frozen).append(known)
        known["dtype"] = name_of(parameter.dtype)
    return trained, frozen


def declare(roles, parameters):
    """Writes the roles of parameters, by their names, into the card's list of them."""
    known = {one["name"]: one for one in parameters}
    for name, role in roles.items():
        if name not in known:
            raise ValueError(f"roles: there is no parameter `{name}`: the model has {', '.join(known)}")
        known[name]["role"] = role


class TorchTrainer(Adapter):
    """A module, and `step(model, batch)`: the forward and backward passes of one optimizer step on a
    :class:`~lossproof_adapters.Batch`, which leave the gradient in the parameters and return the loss that is logged.

    `logits(model, micro_batch)`, where it is given, makes the logits of the rows of a micro-batch, padded at the right,
    and with them token losses are among the capabilities. `training`, where it is given, is a
    :class:`~lossproof_adapters.TrainingLoop`, and whole trainings are among them. `roles` has the role of parameters by
    their names, as docs/adapters.md lists them, where these are not the names of Hugging Face's GPT-2 or Llama.
    """

    def __init__(
        self,
        model,
        step,
        *,
        claims="token-mean",
        limits=None,
        positions=None,
        vocabulary=None,
        logits=None,
        training=None,
        name=None,
        version="0",
        log_policy="window",
        loss_dtype=None,
        roles=None,
    ):
        if limits is None:
            config = getattr(model, "config", None)
            vocabulary = vocabulary or getattr(config, "vocab_size", None)
            positions = positions or getattr(config, "max_position_embeddings", None)
            if vocabulary is None or positions is None:
                raise ValueError("say how many tokens and positions there are: vocabulary=…, positions=…")
            limits = Limits(vocabulary, positions)
        self.model, self.loop, self.logits, self.limits = model, step, logits, limits
        self.training, self.saved = training, None
        self.name, self.version = name or type(model).__name__, version
        self.claims, self.log_policy = claim(claims), log_policy
        self.trained, self.frozen = parameters_of(model)
        declare(roles or {}, self.trained + self.frozen)
        self.named = dict(model.named_parameters())
        self.dtype = next(iter(self.named.values())).dtype
        self.loss_dtype = loss_dtype or self.dtype
        self.initial = {name: values.detach().clone() for name, values in self.named.items()}
        self.buffers = {name: values.detach().clone() for name, values in model.named_buffers()}

    def card(self):
        dtype, loss = name_of(self.dtype), name_of(self.loss_dtype)
        has = {
            "parameter-loading": True,
            "token-losses": self.logits is not None,
            "training-loop": self.training is not None,
            "resume": self.training is not None and self.training.resumes,
            "masks-of-samples": self.training is not None and self.training.masks_of_samples,
        }
        return {
            "name": self.name,
            "version": self.version,
            "framework": f"torch {torch.__version__}",
            "dtypes": {"parameters": dtype, "gradient": dtype, "loss": loss, "accumulation": dtype},
            "claims": self.claims,
            "limits": self.limits.card(),
            "log_policy": self.log_policy,
            "model": {"frozen": self.frozen},
            "parameters": self.trained,
            "capabilities": [name for name, had in has.items() if had],
        }

    def reset(self):
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, values in self.initial.items():
                self.named[name].copy_(values)
            for name, values in self.model.named_buffers():
                values.copy_(self.buffers[name])

    def load(self, parameters):
        with torch.no_grad():
            for name, values in parameters.items():
                self.initial[name].copy_(torch.from_numpy(values))
        self.reset()

    def set(self, name, values):
        with torch.no_grad():
            parameter = self.named[name]
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))

    def accumulate(self, batch):
        self.model.zero_grad(set_to_none=True)
        loss = float(self.loop(self.model, batch))
        return loss, {one["name"]: self.gradient(one["name"]) for one in self.trained}

    def gradient(self, name):
        """The gradient of a parameter: zero where no pass reached it."""
        parameter = self.named[name]
        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

    def evaluate(self, batch):
        if self.logits is None:
            return super().evaluate(batch)
        losses, training = [], self.model.training
        self.model.eval()
        with torch.no_grad():
            for micro_batch in batch.micro_batches:
                logits = self.logits(self.model, micro_batch)
                for row, of_row in zip(micro_batch, logits):
                    targets = torch.tensor(row.targets[1:], dtype=torch.long)
                    known = of_row[: len(targets)].double()
                    losses.append(torch.nn.functional.cross_entropy(known, targets, reduction="none").numpy())
        self.model.train(training)
        return numpy.concatenate(losses) if losses else numpy.zeros(0)

    def accepts(self, plan):
        if self.training is None:
            super().accepts(plan)
        self.training.accepts(plan)

    def train(self, plan, stop_after):
        self.accepts(plan)
        if self.training.resumes:
            # It is kept until the next training begins, since this one may be resumed.
            self.saved = tempfile.TemporaryDirectory()
            self.training.checkpoints = self.saved.name
        return self.training.train(self.model, plan, stop_after)

    def resume(self, plan, stop_after):
        self.accepts(plan)
        if self.training.resumes and self.saved is None:
            raise OtherTraining("nothing was saved")
        return self.training.resume(self.model, plan, stop_after)


class SteppedTrainer(TorchTrainer):
    """A trainer whose gradients cannot be had: `train(model, batch)` makes one whole step of plain SGD at rate 1, and the
    gradient is what it took off the parameters. Give it a model in float64, where the subtraction loses nothing that
    matters."""

    def accumulate(self, batch):
        before = {name: values.detach().clone() for name, values in self.named.items()}
        loss = float(self.loop(self.model, batch))
        gradients = {
            one["name"]: before[one["name"]] - self.named[one["name"]].detach() for one in self.trained
        }
        with torch.no_grad():
            for name, values in before.items():
                self.named[name].copy_(values)
        return loss, gradients


def padded(micro_batch):
    """`input_ids`, `labels` and `attention_mask` of a micro-batch as tensors."""
    return {name: torch.tensor(rows) for name, rows in micro_batch.padded().items()}


def causal_logits(model, micro_batch):
    """The logits of a Hugging Face model."""
    rows = padded(micro_batch)
    return model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits


__all__ = ["IGNORE_INDEX", "SteppedTrainer", "TorchTrainer", "causal_logits", "padded"]

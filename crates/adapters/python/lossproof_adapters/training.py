"""A trainer's own loop: the plan that it is asked to run, what happens in a training, and who runs it.

The plan has the fields that it has in JSON. What happens is a list of events, in order: updates, validations and ends
of epochs. Every number that a loop does not log is None.
"""

from dataclasses import dataclass
from math import ceil

from .batch import Sequence
from .protocol import Unsupported, array


@dataclass(frozen=True)
class Sgd:
    """`torch.optim.SGD` without dampening and Nesterov."""

    momentum: float
    weight_decay: float


@dataclass(frozen=True)
class Adam:
    """`torch.optim.Adam`, or where the decay stands beside the update `torch.optim.AdamW`."""

    beta_1: float
    beta_2: float
    epsilon: float
    #: "after-correction", as in PyTorch, or "before-correction", as in TensorFlow.
    epsilon_placement: str = "after-correction"
    weight_decay: float = 0.0
    #: "all" parameters decay, or the "matrices": those with two dimensions or more.
    decayed: str = "all"
    #: Whether the decay stands beside the update.
    decoupled: bool = False


@dataclass(frozen=True)
class Clip:
    """Clipping by the norm over all parameters: times `min(1, max_norm/(norm + epsilon))`."""

    max_norm: float
    epsilon: float


@dataclass(frozen=True)
class TrainingPlan:
    """A whole training, as a loop is asked to run it."""

    #: The samples of an epoch.
    training: list
    #: The samples of a validation; none where nothing is validated.
    validation: list
    #: Samples of a micro-batch on one rank.
    batch: int
    #: Micro-batches of an update on one rank.
    accumulate: int
    ranks: int
    epochs: int
    #: Fixes the order of the samples and the masks of dropout.
    seed: int
    #: :class:`Sgd` or :class:`Adam`.
    rule: object
    learning_rate: float
    #: "constant", or "linear": update k, from 0, of T has `learning_rate·(T − k)/T`.
    schedule: str
    clip: object
    #: Probability of dropout, wherever the model has it.
    dropout: float
    #: Updates between two validations, beside the one at the end of every epoch; 0: only that.
    evaluate_every: int
    #: Names of parameters that are not trained.
    frozen: list

    @classmethod
    def of(cls, plan):
        """From the form that it has in JSON."""
        (kind, numbers), = plan["rule"].items()
        rule = Sgd(**numbers) if kind == "sgd" else Adam(**numbers, decoupled=kind == "adam-w")
        samples = {name: [Sequence(**row) for row in plan[name]] for name in ("training", "validation")}
        clip = plan.get("clip") and Clip(**plan["clip"])
        return cls(**{**plan, **samples, "rule": rule, "clip": clip})

    @property
    def updates_per_epoch(self):
        """Updates of an epoch, the last of which may be short."""
        return ceil(len(self.training) / (self.batch * self.accumulate * self.ranks))

    @property
    def updates(self):
        """Updates of the whole training."""
        return self.epochs * self.updates_per_epoch

    @property
    def uses(self):
        """What it asks of a loop beside epochs of micro-batches at a constant rate, by names."""
        rule = self.rule
        if isinstance(rule, Sgd):
            named = {"sgd": True, "momentum": rule.momentum != 0}
        else:
            named = {
                "adam-w" if rule.decoupled else "adam": True,
                "epsilon-before-correction": rule.epsilon_placement == "before-correction",
                "decay-of-matrices": rule.weight_decay != 0 and rule.decayed == "matrices",
            }
        validated = bool(self.validation)
        named |= {
            "weight-decay": rule.weight_decay != 0,
            "accumulation": self.accumulate > 1,
            "ranks": self.ranks > 1,
            "linear-schedule": self.schedule == "linear",
            "clipping": self.clip is not None,
            "dropout": self.dropout != 0,
            "frozen": bool(self.frozen),
            "validation": validated,
            # Where nothing is validated it is not asked how often.
            "validation-between-updates": validated and self.evaluate_every != 0,
        }
        return {name for name, used in named.items() if used}


@dataclass
class Update:
    """An update, and what the loop logs of it."""

    #: The samples that it is made of, as indices of the plan: of each micro-batch, of each rank. Where ranks are
    #: processes each names its own, as those of the only one.
    samples: list
    #: All parameters after it, by their names, the frozen ones among them. They are copied, since a loop goes on.
    parameters: dict
    loss: object = None
    learning_rate: object = None
    #: The norm of the gradient before clipping.
    grad_norm: object = None
    #: Whether it was skipped because its gradient was not finite.
    skipped: bool = False

    def __post_init__(self):
        self.parameters = {name: array(values).copy() for name, values in dict(self.parameters).items()}


@dataclass
class Validation:
    """A validation, at the parameters after the update before it."""

    loss: float
    perplexity: float
    #: Supervised tokens that were counted, those of all ranks unless `samples` says which of them these are.
    tokens: int
    #: The number and the supervised tokens of each sample that this rank looked at.
    samples: object = None


@dataclass
class EpochEnd:
    """The end of an epoch, and the loss of training that is logged for it, where one is."""

    loss: object = None


class TrainingLoop:
    """A trainer's own loop, for :class:`~lossproof_adapters.TorchTrainer`: what of a plan it has, and how it runs it.

    The module comes with the parameters to start from; a loop makes everything else anew in each training. Events are
    returned in a list, or yielded.
    """

    #: What a plan may use, by the names of :attr:`TrainingPlan.uses`.
    takes = frozenset({"sgd", "accumulation"})
    #: Whether a training can be stopped and resumed.
    resumes = False
    #: Whether the masks of dropout belong to the samples, wherever in an update they stand.
    masks_of_samples = False
    #: Where it resumes, a folder for what is saved: empty when a training begins, and the same on all ranks.
    checkpoints = None

    def accepts(self, plan):
        """Raises :class:`Unsupported`, naming a setting that it does not have."""
        for setting in sorted(plan.uses - set(self.takes)):
            raise Unsupported(setting)

    def train(self, model, plan, stop_after):
        """Trains to the end of the plan: the events, in order. Where it resumes, it stops after so many updates if
        `stop_after` is not None, and has saved then, and at the end, what the rest depends on."""
        raise NotImplementedError

    def resume(self, model, plan, stop_after):
        """Goes on from what was saved last; what else is left of the training before must not matter. The events that
        follow. Raises :class:`OtherTraining` where what was saved is of another plan."""
        raise Unsupported("resume")


def said(events):
    """Events as they are answered: what stands in the line, and the tensors."""
    lines, tensors = [], {}
    for event in events:
        words, numbers = _said(event)
        place = f"events/{len(lines)}"
        lines.append(words)
        tensors |= {f"{place}/{name}": value for name, value in numbers.items() if value is not None}
    return {"events": lines}, tensors


def _said(event):
    """What an event says in words, and in numbers that may be None."""
    if isinstance(event, Update):
        numbers = {name: getattr(event, name) for name in ("loss", "learning_rate", "grad_norm")}
        numbers |= {f"parameters/{name}": values for name, values in event.parameters.items()}
        return {"event": "update", "samples": event.samples, "skipped": event.skipped}, numbers
    if isinstance(event, Validation):
        numbers = {"loss": event.loss, "perplexity": event.perplexity}
        return {"event": "validation", "tokens": event.tokens}, numbers
    if isinstance(event, EpochEnd):
        return {"event": "epoch-end"}, {"loss": event.loss}
    raise TypeError(f"{event!r} is no event of a training: there are Update, Validation and EpochEnd")

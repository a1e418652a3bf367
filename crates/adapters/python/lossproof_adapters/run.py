"""Answers questions for a trainer, one after another, until nothing more is asked."""

from . import protocol
from .batch import Batch, MicroBatch
from .protocol import Unsupported
from .training import TrainingPlan, said


class Adapter:
    """A trainer, as the judge asks it. What is not overridden is not among its capabilities."""

    def card(self):
        """What it is: a dictionary as docs/adapters.md describes it, without `protocol`."""
        raise NotImplementedError

    def reset(self):
        """Back to the initial parameters: no gradient, no optimizer state."""
        raise NotImplementedError

    def configure(self, spec):
        """From now on this loss, one of those that the card claims. A trainer with one loss has nothing to do."""

    def accumulate(self, batch):
        """Forward and backward of a :class:`Batch`, without a step: the loss that is logged, and the gradient of every
        parameter by its name. A third value, where there is one, is the trainer's own count of supervised tokens."""
        raise NotImplementedError

    def load(self, parameters):
        """Takes parameters by their names; they are the initial ones from now on."""
        raise Unsupported("parameter-loading")

    def set(self, name, values):
        """Replaces one parameter by a flat array, until the next reset or load."""
        raise Unsupported("parameter-loading")

    def evaluate(self, batch):
        """The loss of every prediction of a :class:`Batch`, the ignored ones included."""
        raise Unsupported("token-losses")

    def backward(self, batch, weights):
        """Forward and backward of the sum of token losses, each times its weight: the sum, and the gradient."""
        raise Unsupported("upstream-weights")

    def start(self, optimizer):
        """From now on this optimizer, without state."""
        raise Unsupported("optimizer-steps")

    def step(self, batch):
        """One optimizer step: a dictionary of `loss`, `learning_rate`, `grad_norm`, `clip_factor` and `tensor_norms`,
        with `skipped` and `supervised_tokens` where there are such."""
        raise Unsupported("optimizer-steps")

    def read(self):
        """The parameters by their names."""
        raise Unsupported("optimizer-steps")

    def validate(self, micro_batches):
        """Mean loss, its perplexity, and the number of supervised tokens. Of nothing both numbers are NaN."""
        raise Unsupported("evaluation")

    def accepts(self, plan):
        """Whether the loop can run a :class:`TrainingPlan` under the loss in force: raises Unsupported where not."""
        raise Unsupported("training-loop")

    def train(self, plan, stop_after):
        """Runs it, until so many updates are made where it is to stop: the events, in order."""
        raise Unsupported("training-loop")

    def resume(self, plan, stop_after):
        """Goes on from what was saved last: the events that follow."""
        raise Unsupported("resume")


def _named(prefix, tensors):
    return {f"{prefix}/{name}": values for name, values in tensors.items()}


def _pass(loss, gradients, supervised_tokens=None):
    return {"supervised_tokens": supervised_tokens}, {"loss": loss, **_named("gradients", gradients)}


def answer(adapter, request, tensors):
    """The answer to one question: what stands in the line, and the tensors."""
    call = request["call"]
    if call == "hello":
        if request["protocol"] != protocol.VERSION:
            raise RuntimeError(f"version {request['protocol']} of the protocol is not spoken here")
        return {"protocol": protocol.VERSION, **adapter.card()}, {}
    if call == "bye":
        return {}, {}
    if call == "reset":
        adapter.reset()
        return {}, {}
    if call == "configure":
        adapter.configure(request["spec"])
        return {}, {}
    if call == "accumulate":
        return _pass(*adapter.accumulate(Batch.of(request["batch"])))
    if call == "load":
        adapter.load({name.removeprefix("parameters/"): values for name, values in tensors.items()})
        return {}, {}
    if call == "set":
        adapter.set(request["name"], tensors["values"])
        return {}, {}
    if call == "evaluate":
        return {}, {"token_losses": adapter.evaluate(Batch.of(request["batch"]))}
    if call == "backward":
        return _pass(*adapter.backward(Batch.of(request["batch"]), tensors["weights"]))
    if call == "start":
        adapter.start(request["optimizer"])
        return {}, {}
    if call == "step":
        report = dict(adapter.step(Batch.of(request["batch"])))
        words = {name: report.pop(name) for name in ("skipped", "supervised_tokens") if name in report}
        return words, report
    if call == "read":
        return {}, _named("parameters", adapter.read())
    if call == "validate":
        batches = [Batch.of([[rows]]).micro_batches[0] for rows in request["batches"]]
        loss, perplexity, tokens = adapter.validate(batches)
        return {"tokens": tokens}, {"loss": loss, "perplexity": perplexity}
    if call == "accepts":
        adapter.accepts(TrainingPlan.of(request["plan"]))
        return {}, {}
    if call in ("train", "resume"):
        go = adapter.train if call == "train" else adapter.resume
        return said(go(TrainingPlan.of(request["plan"]), request.get("stop_after")))
    raise Unsupported(call)


def run(adapter):
    """Answers for a trainer until nothing more is asked."""
    import sys

    questions, answers = protocol.channels()
    while (message := protocol.read(questions)) is not None:
        id, request, tensors = message
        try:
            said = protocol.packed(id, *answer(adapter, request, tensors))
        except Exception as error:
            # What a trainer raises is an answer; where it was raised is for whoever reads standard error.
            if not isinstance(error, protocol.NAMED):
                import traceback

                traceback.print_exc(file=sys.stderr)
            protocol.fail(answers, id, error)
        else:
            protocol.send(answers, *said)
        if request["call"] == "bye":
            break

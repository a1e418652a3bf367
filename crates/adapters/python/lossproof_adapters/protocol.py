"""The trainer's end of the protocol: questions come in on standard input, answers go out on standard output.

A message is a line of JSON, and behind it as many bytes of tensors as the line announces, in the safetensors
format. Every number that is judged is in a tensor, since JSON has no NaN. docs/adapters.md describes it.
"""

import json
import os
import sys

import numpy
from safetensors.numpy import load, save

VERSION = 1

#: Bytes that the line of a question may have.
LONGEST_LINE = 1 << 26


class Unsupported(Exception):
    """The trainer has no such loss, optimizer, plan or capability."""

    kind = "unsupported"


class Refused(Exception):
    """The batch is outside what the trainer takes."""

    kind = "refused"


class EmptyGroup(Exception):
    """A mean was to be taken of nothing, and the loss that is claimed has an error then."""

    kind = "empty-group"


class OtherTraining(Exception):
    """What was saved is of another training."""

    kind = "other-training"


_channels = None


#: What a trainer may raise to say what kind of failure it is.
NAMED = (Unsupported, Refused, EmptyGroup, OtherTraining)


def channels():
    """The two ends of the protocol, taken away from everything else that prints and reads.

    Libraries print to standard output; from the first call on that is standard error, and standard input is empty. The
    package calls it when it is imported by an adapter that the judge has started.
    """
    global _channels
    if _channels is None:
        _channels = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    return _channels


def read(questions):
    """The next question and its tensors; None where nothing more is asked."""
    line = questions.readline(LONGEST_LINE)
    if not line:
        return None
    message = json.loads(line)
    announced = message.get("tensors", 0)
    data = questions.read(announced) if announced else b""
    if len(data) < announced:
        raise EOFError(f"{announced} bytes of tensors are announced, and {len(data)} came")
    return message["id"], message["request"], load(data) if announced else {}


def packed(id, answer, tensors=None):
    """An answer before it is sent: its line, and its tensors as bytes. Tensors are anything that numpy makes arrays of;
    those of other types become float32."""
    arrays = {name: array(values) for name, values in (tensors or {}).items()}
    data = save(arrays) if arrays else b""
    return line({"id": id, "tensors": len(data), "answer": answer}), data


def fail(answers, id, error):
    """Says why there is no answer."""
    kind = error.kind if isinstance(error, NAMED) else "failed"
    message = str(error) or type(error).__name__
    if kind == "failed":
        message = f"{type(error).__name__}: {message}"
    send(answers, line({"id": id, "error": {"kind": kind, "message": message}}), b"")


def line(message):
    """A message as its line; counts may be those of numpy or torch."""
    return json.dumps(message, default=lambda number: number.item()).encode() + b"\n"


def send(answers, line, data):
    answers.write(line + data)
    answers.flush()


def array(values):
    """An array of float32 or float64, which the protocol has, of what may be a tensor of torch."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.double() if values.element_size() == 8 else values.float()).numpy()
    values = numpy.asarray(values, dtype=None if hasattr(values, "dtype") else numpy.float64)
    if values.dtype not in (numpy.float32, numpy.float64):
        values = values.astype(numpy.float64 if values.dtype.itemsize == 8 else numpy.float32)
    # safetensors takes no view whose values do not stand in a row.
    return numpy.ascontiguousarray(values).reshape(values.shape)

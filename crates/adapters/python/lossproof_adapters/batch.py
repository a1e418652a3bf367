"""Batches as the judge sends them: ranks of micro-batches of sequences."""

from dataclasses import dataclass

IGNORE_INDEX = -100


@dataclass(frozen=True)
class Sequence:
    """One row. Labels are unshifted, as Hugging Face takes them: the prediction made at position t is scored against
    labels[t + 1]."""

    input_ids: list
    labels: list
    #: 0 for padding, otherwise the number of the packed document. By default one document.
    segment_ids: list = None
    #: By default 0, 1, 2, ….
    position_ids: list = None
    #: The token at every position even where the label is ignored. By default the label, or else the token.
    targets: list = None

    def __post_init__(self):
        known = [token if label == IGNORE_INDEX else label for token, label in zip(self.input_ids, self.labels)]
        defaults = {
            "segment_ids": [1] * len(self.input_ids),
            "position_ids": list(range(len(self.input_ids))),
            "targets": known,
        }
        for name, values in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, values)

    @property
    def supervised(self):
        """Number of supervised tokens: labels behind the first position that are not ignored."""
        return sum(label != IGNORE_INDEX for label in self.labels[1:])


class MicroBatch(list):
    """The sequences of one forward and backward pass, of any lengths."""

    def padded(self, pad_token=0):
        """`input_ids`, `labels` and `attention_mask` as lists of rows of one width, padded at the right."""
        width = max(len(row.input_ids) for row in self)
        more = [width - len(row.input_ids) for row in self]
        return {
            "input_ids": [row.input_ids + [pad_token] * n for row, n in zip(self, more)],
            "labels": [row.labels + [IGNORE_INDEX] * n for row, n in zip(self, more)],
            "attention_mask": [[1] * len(row.input_ids) + [0] * n for row, n in zip(self, more)],
        }

    @property
    def supervised(self):
        """Number of supervised tokens."""
        return sum(row.supervised for row in self)


class Batch(list):
    """What one optimizer step sees: ranks, each a list of micro-batches."""

    @classmethod
    def of(cls, ranks):
        """From the form that it has in JSON."""
        return cls([[MicroBatch(Sequence(**row) for row in rows) for rows in rank] for rank in ranks])

    @property
    def micro_batches(self):
        """All micro-batches, by rank."""
        return [micro_batch for rank in self for micro_batch in rank]

    @property
    def supervised(self):
        """Number of supervised tokens."""
        return sum(micro_batch.supervised for micro_batch in self.micro_batches)

"""What an adapter says of its trainer."""

from dataclasses import asdict, dataclass


def _spec(reduction, scope="global", micro_batches="add", ranks="add", **more):
    return {"reduction": reduction, "scope": scope, "micro_batches": micro_batches, "ranks": ranks, **more}


#: Loss semantics by their names, as `lossproof explain` has them.
CLAIMS = {
    "sum": _spec("sum"),
    "token-mean": _spec("token-mean"),
    "sequence-mean": _spec("sequence-mean"),
    "batch-mean": _spec("batch-mean"),
    "naive-accumulated-mean": _spec("token-mean", "micro-batch", "average", "average"),
    "forgotten-division": _spec("token-mean", "micro-batch"),
    "naive-data-parallel": _spec("token-mean", "rank-window", "add", "average"),
}


def claim(of):
    """A claim by its name, or in full; several in a list."""
    if isinstance(of, list):
        return [claim(one) for one in of]
    if isinstance(of, dict) or of == "any":
        return of
    if of not in CLAIMS:
        raise ValueError(f"there is no loss `{of}`: name one of {', '.join(CLAIMS)}, or give it in full")
    return CLAIMS[of]


@dataclass(frozen=True)
class Limits:
    """What batches a trainer takes. A count is a number, or the fewest and the most with None for any number."""

    vocabulary: int
    positions: int
    #: Positions of a sequence; by default up to as many as there are.
    lengths: object = None
    #: Whether labels may be -100.
    ignore_index: bool = True
    #: Whether a label may be another token than the one at its position.
    free_labels: bool = True
    #: Whether sequences may be padded or packed: `segment_ids` other than 1.
    segments: bool = False
    #: Sequences of a micro-batch.
    sequences: object = (1, None)
    #: Micro-batches of a rank.
    micro_batches: object = (1, None)
    ranks: object = 1

    def card(self):
        """The form that it has in JSON."""
        return asdict(self)

"""The loop that docs/adapters.md has as an example, on the module of plain.py: `python loop.py [short]`.

With `short` it is mistaken, and drops the micro-batches that fill no window.
"""

import functools
import pathlib
import sys

import plain

PAGE = pathlib.Path(__file__).parents[4] / "docs" / "adapters.md"
WINDOWS = "range(0, len(micro_batches), plan.accumulate)"
WHOLE_ONES = "range(0, len(micro_batches) - plan.accumulate + 1, plan.accumulate)"


def example():
    """The source of the example."""
    blocks = [block.split("```")[0] for block in PAGE.read_text().split("```python\n")[1:]]
    return next(block for block in blocks if "TrainingLoop" in block)


if __name__ == "__main__":
    source = example()
    assert WINDOWS in source
    if "short" in sys.argv:
        source = source.replace(WINDOWS, WHOLE_ONES)
    exec(source, {"my_model": plain.Model().double(), "step": functools.partial(plain.step, wrong=False)})

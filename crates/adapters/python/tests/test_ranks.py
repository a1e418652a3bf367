"""Ranks as processes: what the judge says of them, and what is left of them. LOSSPROOF names the judge."""

import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from lossproof_adapters import EpochEnd, Update, Validation
from test_judge import HERE, lossproof, needs_judge, verdicts

torch = pytest.importorskip("torch")

from lossproof_adapters.ranks import agreed_training, digests  # noqa: E402 (it needs torch)

#: The variable of the environment that all processes of one adapter have.
MARK = "LOSSPROOF_TEST_OF_RANKS"

#: Seconds in which a process that ends is gone.
SOON = 15


def processes(mark, also=""):
    """The numbers of the processes that have a mark and another variable, whoever started them."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_text(errors="replace").split("\0")
            if f"{MARK}={mark}" in variables and (not also or also in variables):
                found.append(int(process.name))
    return found


def nothing_left(mark):
    """Whether all processes that have a mark are gone soon."""
    late = time.monotonic() + SOON
    while time.monotonic() < late:
        if not processes(mark):
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def adapter(mistake, patience=200):
    """An adapter, and its mark. It is killed in the end, with all that is left of it."""
    mark = f"{os.getpid()}-{mistake}-{time.monotonic()}"
    environment = os.environ | {MARK: mark, "LOSSPROOF_TIMEOUT": str(3 * patience)}
    command, pipe = [sys.executable, HERE / "ddp.py", mistake], subprocess.PIPE
    asked = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)
    try:
        yield asked, mark
    finally:
        for process in processes(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        asked.wait()
        asked.stdin.close()
        asked.stdout.close()


ROW = {"input_ids": [1, 2, 3], "labels": [1, 2, 3]}


def ask(asked, ranks=2, rows=1):
    """Asks for a step on a batch of so many ranks, of one and of two micro-batches of so many rows."""
    batch = [[[ROW] * rows] * (rank + 1) for rank in range(ranks)]
    line = json.dumps({"id": 1, "request": {"call": "accumulate", "batch": batch}})
    asked.stdin.write(line.encode() + b"\n")
    asked.stdin.flush()


def answer(asked):
    """The answer, or the message of an error."""
    assert select.select([asked.stdout], [], [], 150)[0], "no answer"
    message = json.loads(asked.stdout.readline())
    asked.stdout.read(message.get("tensors", 0))
    return message["error"]["message"] if "error" in message else message["answer"]


@needs_judge
def test_a_right_trainer_keeps_the_laws_on_two_ranks():
    asked = ("token-mean", "rank-invariance", "rank-order", "shares")
    laws = [part for law in asked for part in ("--law", law)]
    code, printed = lossproof("laws", f"'{HERE / 'ddp.py'}'", *laws, "--cases", "8")
    assert code == 0 and "4 passed, 0 failed" in printed, printed
    code, printed = lossproof("diagnose", f"'{HERE / 'ddp.py'}'")
    assert code == 0 and "looks like" not in printed, printed


@needs_judge
@pytest.mark.parametrize(
    ("mistake", "bug"),
    [("own-tokens", "rank-local-token-mean"), ("not-undone", "dp-average-not-undone")],
)
def test_what_ranks_get_wrong_is_named(mistake, bug):
    code, printed = lossproof("diagnose", f"'{HERE / 'ddp.py'}' {mistake}")
    assert code == 1 and f"looks like {bug}:" in printed, printed


@needs_judge
@pytest.mark.parametrize(
    ("mistake", "broken"),
    [("", set()), ("own-order", {"samples-once"})],
)
def test_a_training_over_two_ranks_is_one_training(mistake, broken, tmp_path):
    laws = ("samples-once", "training-update", "training-schedule")
    found = verdicts(f"'{HERE / 'ddp.py'}' {mistake}", tmp_path, *laws)
    assert found.pop("training-schedule") == "unsupported"
    assert {law for law, verdict in found.items() if verdict == "fail"} == broken, found
    assert set(found.values()) <= {"pass", "fail"}, found


@needs_judge
@pytest.mark.parametrize(
    ("adapter", "broken", "kept"),
    [
        (
            "-m lossproof_adapters.hf_trainer --model llama --ranks 2",
            ("training-validation", "training-undisturbed", "samples-once"),
            ("training-update", "training-clipping", "training-loss", "resume"),
        ),
        (
            "-m lossproof_adapters.accelerate_loop --model llama --ranks 2",
            ("training-validation", "training-loss", "resume", "samples-once"),
            ("training-update", "training-schedule"),
        ),
    ],
)
def test_what_released_loops_do_over_two_ranks(adapter, broken, kept, tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    found = verdicts(adapter, tmp_path, *broken, *kept, cases="8")
    assert found == dict.fromkeys(broken, "fail") | dict.fromkeys(kept, "pass")


def update(samples, parameter=1.0, rank=0):
    """An update as a rank says it."""
    made = Update(samples, {"weight": torch.tensor([parameter])})
    if rank:
        made.parameters = digests(made.parameters)
    return made


def test_the_events_of_all_ranks_are_one_training():
    of_zero = [update([[[0, 1]], [[4]]]), Validation(1.5, 4.5, 5, [(0, 2), (1, 3)]), EpochEnd(0.5)]
    of_one = [update([[[2, 3]]], rank=1), Validation(1.5, 4.5, 5, [(2, 4), (0, 2)]), EpochEnd(0.7)]
    merged, validation, end = agreed_training([of_zero, of_one])
    assert merged.samples == [[[0, 1], [2, 3]], [[4], []]]
    # Sample 0 fills up rank 1.
    assert validation.tokens == 9 and end.loss == 0.5


def test_a_sample_that_one_rank_validates_twice_counts_twice_and_rank_0_may_validate_alone():
    for others in ([], [[update([[[1]]], rank=1)]]):
        twice = [update([[[0]]]), Validation(1.5, 4.5, 4, [(0, 2), (0, 2)])]
        assert agreed_training([twice, *others])[1].tokens == 4


@pytest.mark.parametrize(
    ("of_one", "said"),
    [
        ([], "rank 1 of 2 makes 0 updates, and rank 0 1"),
        ([update([[[1]]], 1.5, rank=1)], "rank 1 of 2 ends update 0 with another `weight`"),
        ([update([[[0], [1]]], rank=1)], "rank 1 of 2 ends update 0 with samples of several ranks"),
        ([update([[[1]]], rank=1), Validation(1.5, 4.5, 3)], "ranks validate 5, 3 tokens"),
        ([update([[[1]]], rank=1), Validation(1.5, 4.5, 3, [(1, 3)])], "2 and 3 tokens of sample 1"),
    ],
)
def test_ranks_that_have_other_trainings_are_named(of_one, said):
    validation = Validation(1.5, 4.5, 5, [(0, 3), (1, 2)] if "of sample" in said else None)
    with pytest.raises(RuntimeError, match=re.escape(said)):
        agreed_training([[update([[[0]]]), validation], of_one])


@needs_judge
def test_a_rank_that_refuses_alone_is_an_error():
    with adapter("refuses") as (asked, mark):
        ask(asked)
        assert "rank 1 of 2: Refused: not here" in answer(asked)
        asked.stdin.close()
        assert asked.wait(60) == 0 and nothing_left(mark)


TRAINER = f"'{HERE / 'trainer.py'}'"


@needs_judge
@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("-m lossproof_adapters.hf_trainer --model llama", None),
        # The same, so that what is looked at on two ranks would have shown this.
        (f"{TRAINER} average_tokens_across_devices=False -- --model llama", "like rank-local-token-mean:"),
        # Of updates that were not logged, what is reported in the end is the loss of one rank.
        (f"{TRAINER} logging_steps=500 -- --model llama", "no known bug shows all of this"),
        ("-m lossproof_adapters.hf_trainer --model gpt2", "looks like counted-before-shift:"),
        ("-m lossproof_adapters.accelerate_loop --model llama", "looks like ga-mean-of-means:"),
        ("-m lossproof_adapters.ddp_loop --model llama", "looks like ga-mean-of-means:"),
        # Over ranks, too, that is what they are, in gradient and loss.
        ("-m lossproof_adapters.accelerate_loop --claim naive-accumulated-mean", None),
        ("-m lossproof_adapters.ddp_loop --claim naive-accumulated-mean", None),
    ],
)
def test_what_released_trainers_do_over_two_ranks(adapter, said):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    code, printed = lossproof("diagnose", f"{adapter} --ranks 2")
    if said is None:
        assert code == 0 and "looks like" not in printed, printed
    else:
        assert code == 1 and said in printed, printed


@pytest.mark.parametrize(
    ("mistake", "patience", "said"),
    [
        ("dies", 200, ["rank 1 of 2 ended without an answer"]),
        ("raises", 200, ["rank 1 of 2: ValueError: no luck"]),
        ("parts", 200, ["rank 1 of 2 ends the step with another `embed_tokens.weight` than rank 0"]),
        ("hangs", 20, ["ranks 0 and 1 of 2 gave no answer in 20 s", "rank 1 is in `misbehave`"]),
        ("stops", 20, ["ranks 0 and 1 of 2 gave no answer in 20 s", "rank 1 is stopped altogether"]),
    ],
)
def test_a_rank_that_fails_is_named_and_none_is_left(mistake, patience, said):
    with adapter(mistake, patience) as (asked, mark):
        # What rank 1 does is no matter where there is none.
        ask(asked, ranks=1)
        assert answer(asked) == {"supervised_tokens": None}
        ask(asked)
        found = answer(asked)
        assert all(words in found for words in said), found
        asked.stdin.close()
        assert asked.wait(60) == 0 and nothing_left(mark)


def test_a_rank_that_does_not_take_its_question_is_not_waited_for():
    with adapter("", patience=20) as (asked, mark):
        ask(asked)
        answer(asked)
        (rank,) = processes(mark, also="RANK=1")
        os.kill(rank, signal.SIGSTOP)
        # More than what a socket keeps.
        ask(asked, rows=20000)
        found = answer(asked)
        assert "rank 1 is stopped altogether" in found, found
        # Others take their place.
        ask(asked)
        assert "supervised_tokens" in answer(asked)
        asked.stdin.close()
        assert asked.wait(60) == 0 and nothing_left(mark)


@pytest.mark.parametrize("mistake", ["", "hangs"])
def test_nothing_is_left_of_an_adapter_that_is_killed(mistake):
    with adapter(mistake) as (asked, mark):
        ask(asked)
        if mistake == "hangs":
            # Two ranks, torchrun, and the adapter: the ranks wait for each other by then.
            while len(processes(mark)) < 4:
                time.sleep(0.1)
            time.sleep(10)
        else:
            answer(asked)
        assert len(processes(mark)) == 4
        asked.kill()
        asked.wait()
        assert nothing_left(mark)

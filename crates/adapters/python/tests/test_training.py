"""What a loop is asked and what it answers, without a judge and without torch."""

import json
import pathlib

import numpy
import pytest

from lossproof_adapters import Adapter, EpochEnd, TrainingLoop, TrainingPlan, Unsupported, Update, Validation
from lossproof_adapters.run import answer
from lossproof_adapters.training import Adam, Clip, Sgd

SCHEMAS = pathlib.Path(__file__).parents[4] / "fixtures" / "schemas"
ROW = {"input_ids": [1, 2, 3], "labels": [1, -100, 3], "segment_ids": [1, 1, 1],
       "position_ids": [0, 1, 2], "targets": [1, 2, 3]}
PLAN = {"training": [ROW] * 5, "validation": [ROW], "batch": 1, "accumulate": 2, "ranks": 1, "epochs": 2,
        "seed": 7, "rule": {"sgd": {"momentum": 0.5, "weight_decay": 0.125}}, "learning_rate": 0.25,
        "schedule": "linear", "clip": {"max_norm": 1.5, "epsilon": 1e-6}, "dropout": 0.25,
        "evaluate_every": 1, "frozen": ["w"]}
ADAM = {"beta_1": 0.9, "beta_2": 0.95, "epsilon": 1e-8}


def plan(**more):
    return TrainingPlan.of({**PLAN, **more})


def test_a_plan_is_read_as_it_stands_in_json():
    one = plan()
    assert one.rule == Sgd(momentum=0.5, weight_decay=0.125) and one.clip == Clip(max_norm=1.5, epsilon=1e-6)
    assert [row.labels for row in one.validation] == [[1, -100, 3]] and len(one.training) == 5
    # Two windows of two and one of one.
    assert (one.updates_per_epoch, one.updates) == (3, 6)
    assert plan(clip=None).clip is None
    adam = plan(rule={"adam-w": {**ADAM, "weight_decay": 0.5, "decayed": "matrices"}}).rule
    assert adam == Adam(**ADAM, weight_decay=0.5, decayed="matrices", decoupled=True)
    assert plan(rule={"adam": ADAM}).rule == Adam(**ADAM)
    with pytest.raises(TypeError):
        plan(something_of_a_later_version=1)


def test_the_plan_of_the_tests_has_the_form_of_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((SCHEMAS / "question.json").read_text())
    request = {"call": "train", "plan": PLAN, "stop_after": None}
    jsonschema.validate({"id": 1, "request": request}, schema)


@pytest.mark.parametrize(
    ("setting", "without"),
    [
        ("momentum", {"rule": {"sgd": {"momentum": 0.0, "weight_decay": 0.125}}}),
        ("weight-decay", {"rule": {"sgd": {"momentum": 0.5, "weight_decay": 0.0}}}),
        ("accumulation", {"accumulate": 1}),
        ("linear-schedule", {"schedule": "constant"}),
        ("clipping", {"clip": None}),
        ("dropout", {"dropout": 0.0}),
        ("frozen", {"frozen": []}),
        ("validation-between-updates", {"evaluate_every": 0}),
    ],
)
def test_a_loop_refuses_what_it_does_not_name(setting, without):
    class Loop(TrainingLoop):
        takes = plan().uses - {setting}

    assert setting in plan().uses
    Loop().accepts(plan(**without))
    with pytest.raises(Unsupported, match=setting):
        Loop().accepts(plan())


def test_what_adam_uses_has_names():
    decayed = {**ADAM, "weight_decay": 0.5, "decayed": "matrices"}
    assert {"adam-w", "weight-decay", "decay-of-matrices"} <= plan(rule={"adam-w": decayed}).uses
    # Without decay it makes no difference what decays.
    assert "decay-of-matrices" not in plan(rule={"adam": {**ADAM, "decayed": "matrices"}}).uses
    placed = {**ADAM, "epsilon_placement": "before-correction"}
    assert "epsilon-before-correction" in plan(rule={"adam": placed}).uses
    assert "validation-between-updates" not in plan(validation=[]).uses


class Looped(Adapter):
    """A loop that moves one parameter in place, as trainers do."""

    def train(self, plan, stop_after):
        values = numpy.float64([1, 2])
        for number in range(stop_after):
            values += 1
            yield Update([[[number]]], {"w": values}, loss=0.5)
        yield Validation(loss=1.5, perplexity=4.5, tokens=3)
        yield EpochEnd()


def test_what_happens_is_answered_in_order():
    words, tensors = answer(Looped(), {"call": "train", "plan": PLAN, "stop_after": 2}, {})
    assert [event["event"] for event in words["events"]] == ["update", "update", "validation", "epoch-end"]
    assert words["events"][1] == {"event": "update", "samples": [[[1]]], "skipped": False}
    assert list(tensors["events/0/parameters/w"]) == [2, 3] and list(tensors["events/1/parameters/w"]) == [3, 4]
    assert (tensors["events/2/loss"], tensors["events/2/perplexity"]) == (1.5, 4.5)
    # What is not logged is not there.
    assert set(tensors) == {
        *(f"events/{at}/{name}" for at in (0, 1) for name in ("parameters/w", "loss")),
        "events/2/loss",
        "events/2/perplexity",
    }
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate({"id": 1, "tensors": 0, "answer": words}, json.loads((SCHEMAS / "answer.json").read_text()))


def test_what_is_no_event_is_an_error():
    class Wrong(Adapter):
        def resume(self, plan, stop_after):
            return [{"event": "update"}]

    with pytest.raises(TypeError, match="no event"):
        answer(Wrong(), {"call": "resume", "plan": PLAN}, {})
    for call in ("accepts", "train", "resume"):
        with pytest.raises(Unsupported):
            answer(Adapter(), {"call": call, "plan": PLAN}, {})

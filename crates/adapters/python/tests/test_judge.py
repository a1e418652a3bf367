"""Trainers in Python behind the judge, whose program the environment variable LOSSPROOF names."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
SCHEMAS = HERE.parents[3] / "fixtures" / "schemas"

judge = os.environ.get("LOSSPROOF")
needs_judge = pytest.mark.skipif(judge is None, reason="LOSSPROOF names no program")
pytest.importorskip("torch")


def lossproof(command, adapter, *more):
    done = subprocess.run(
        [judge, command, "--adapter", f"'{sys.executable}' {adapter}", *more], capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


@needs_judge
def test_a_plain_module_keeps_the_laws():
    code, printed = lossproof("laws", f"'{HERE / 'plain.py'}'", "--cases", "8")
    # Some laws are not decided by eight cases, and none fails.
    assert code in (0, 3) and ", 0 failed, " in printed, printed


@needs_judge
def test_a_mean_of_means_is_named():
    code, printed = lossproof("diagnose", f"'{HERE / 'plain.py'}' wrong")
    assert code == 1 and "looks like ga-mean-of-means" in printed, printed


@needs_judge
@pytest.mark.parametrize(
    ("adapter", "bug"),
    [
        ("hf_trainer --model gpt2", "counted-before-shift"),
        ("accelerate_loop --model gpt2", "ga-mean-of-means"),
    ],
)
def test_a_released_trainer_has_its_bug_named(adapter, bug):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    code, printed = lossproof("diagnose", f"-m lossproof_adapters.{adapter}")
    assert code == 1 and f"looks like {bug}" in printed, printed


@needs_judge
def test_a_trainer_that_counts_rightly_is_not_accused():
    pytest.importorskip("transformers")
    code, printed = lossproof("diagnose", "-m lossproof_adapters.hf_trainer --model llama")
    assert code == 0 and "looks like" not in printed, printed


def verdicts(adapter, folder, *laws, cases="24"):
    """The verdict of each law on a loop."""
    report = folder / "report.json"
    asked = [part for law in laws for part in ("--law", law)]
    _, printed = lossproof("laws", adapter, *asked, "--cases", cases, "--json", str(report))
    assert report.exists(), printed
    found = json.loads(report.read_text())["subjects"][0]["laws"]
    return {law["law"]: law["verdict"] for law in found}


LOOP = HERE / "loop.py"
ONCE = ("samples-once", "training-update", "training-schedule")


@needs_judge
def test_the_loop_of_the_documentation_keeps_the_laws_of_trainings(tmp_path):
    found = verdicts(f"'{LOOP}'", tmp_path, *ONCE, "frozen", "resume")
    assert [found.pop(law) for law in ("frozen", "resume")] == ["unsupported"] * 2
    assert set(found.values()) == {"pass"}, found


@needs_judge
def test_a_loop_that_drops_a_window_breaks_them(tmp_path):
    found = verdicts(f"'{LOOP}' short", tmp_path, *ONCE)
    assert found == {"samples-once": "fail", "training-update": "fail", "training-schedule": "pass"}


@needs_judge
def test_the_loop_of_the_trainer_resumes_and_a_validation_disturbs_its_masks(tmp_path):
    pytest.importorskip("transformers")
    broken = ("training-validation", "training-undisturbed", "not-a-number", "resume-otherwise")
    kept = ("resume", "training-update", "training-clipping", "training-schedule")
    found = verdicts("-m lossproof_adapters.hf_trainer --model llama", tmp_path, *broken, *kept, cases="48")
    assert found == dict.fromkeys(broken, "fail") | dict.fromkeys(kept, "pass")


@needs_judge
def test_the_loop_of_the_script_divides_short_windows_by_whole_ones(tmp_path):
    pytest.importorskip("accelerate")
    broken = ("training-update", "resume", "training-undisturbed")
    kept = ("samples-once", "training-validation", "training-split", "not-a-number")
    blocks = "-m lossproof_adapters.accelerate_loop --model gpt2 --length 8"
    found = verdicts(blocks, tmp_path, *broken, *kept, "training-clipping", cases="48")
    assert found.pop("training-clipping") == "unsupported"
    assert found == dict.fromkeys(broken, "fail") | dict.fromkeys(kept, "pass")


def test_what_is_said_has_the_form_of_the_schemas():
    jsonschema = pytest.importorskip("jsonschema")
    schemas = {name: json.loads((SCHEMAS / f"{name}.json").read_text()) for name in ("question", "answer")}
    row = {"input_ids": [1, 2], "labels": [1, 2], "segment_ids": [1, 1], "position_ids": [0, 1], "targets": [1, 2]}
    asked = [{"call": "hello", "protocol": 1}, {"call": "accumulate", "batch": [[[row]]]}, {"call": "read"}]
    asked.append({"call": "bye"})
    questions = [{"id": id, "request": request} for id, request in enumerate(asked)]
    done = subprocess.run(
        [sys.executable, HERE / "plain.py"],
        input="".join(json.dumps(question) + "\n" for question in questions).encode(),
        capture_output=True,
        timeout=120,
    )
    rest, kinds = done.stdout, []
    for question in questions:
        jsonschema.validate(question, schemas["question"])
        line, _, rest = rest.partition(b"\n")
        message = json.loads(line)
        jsonschema.validate(message, schemas["answer"])
        assert message["id"] == question["id"]
        kinds.append("error" if "error" in message else "answer")
        rest = rest[message.get("tensors", 0) :]
    assert kinds == ["answer", "answer", "error", "answer"] and rest == b""


def test_a_role_is_said_of_a_parameter_that_there_is():
    import torch

    from lossproof_adapters import TorchTrainer

    def trainer(roles):
        return TorchTrainer(torch.nn.Embedding(4, 2), None, vocabulary=4, positions=2, roles=roles)

    assert trainer({"weight": "token-embedding"}).card()["parameters"][0]["role"] == "token-embedding"
    with pytest.raises(ValueError, match="no parameter `wte`: the model has weight"):
        trainer({"wte": "token-embedding"})


@needs_judge
def test_roles_let_laws_decide_that_are_unchecked_without(tmp_path):
    renamed = (HERE / "plain.py").read_text().replace("embed_tokens", "rows").replace("self.norm", "self.last")
    renamed = renamed.replace("self.lm_head", "self.out")
    without, declared = tmp_path / "without.py", tmp_path / "declared.py"
    without.write_text(renamed)
    roles = {"rows.weight": "token-embedding", "last.weight": "final-norm-gain", "last.bias": "final-norm-bias"}
    roles["out.weight"] = "head"
    declared.write_text(renamed.replace('name="plain"', f'name="plain", roles={roles!r}'))
    passed = []
    for adapter in (without, declared):
        code, printed = lossproof("laws", f"'{adapter}'", "--cases", "16")
        assert code in (0, 3) and ", 0 failed, " in printed, printed
        passed.append(int(printed.split(" passed, ")[0].split()[-1]))
    assert passed[1] > passed[0], passed

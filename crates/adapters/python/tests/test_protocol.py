"""The protocol by itself, without a judge and without torch."""

import io
import json
import pathlib

import numpy
import pytest
from safetensors.numpy import load, save

from lossproof_adapters import CLAIMS, Adapter, Batch, Refused, Unsupported, claim, protocol
from lossproof_adapters.run import answer

BATCH = [[[{"input_ids": [1, 2, 3], "labels": [1, -100, 3], "segment_ids": [1, 1, 1],
            "position_ids": [0, 1, 2], "targets": [1, 2, 3]}]]]


class Constant(Adapter):
    """A trainer that answers what it is told to."""

    def card(self):
        return {"name": "constant"}

    def reset(self):
        raise Refused("not today")

    def accumulate(self, batch):
        return 0.5, {"w": numpy.float32([[1, 2]])}, batch.supervised


def said(stream):
    line, _, data = stream.getvalue().partition(b"\n")
    return json.loads(line), data


def test_a_pass_is_answered_by_its_loss_and_gradients():
    words, numbers = answer(Constant(), {"call": "accumulate", "batch": BATCH}, {})
    assert words == {"supervised_tokens": 1}
    assert numbers["loss"] == 0.5 and numbers["gradients/w"].shape == (1, 2)


def test_what_an_adapter_does_not_have_is_unsupported():
    with pytest.raises(Unsupported):
        answer(Constant(), {"call": "read"}, {})
    with pytest.raises(Unsupported):
        answer(Constant(), {"call": "something of a later version"}, {})


def test_another_version_is_refused():
    with pytest.raises(RuntimeError):
        answer(Constant(), {"call": "hello", "protocol": 2}, {})


def test_a_question_is_read_with_its_tensors():
    data = save({"values": numpy.float64([1, 2])})
    line = json.dumps({"id": 3, "tensors": len(data), "request": {"call": "set", "name": "w"}}).encode()
    id, request, tensors = protocol.read(io.BytesIO(line + b"\n" + data))
    assert (id, request["name"], list(tensors["values"])) == (3, "w", [1.0, 2.0])
    assert protocol.read(io.BytesIO(b"")) is None
    with pytest.raises(EOFError):
        protocol.read(io.BytesIO(line + b"\n" + data[:-1]))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (0.1, numpy.float64),
        (numpy.float32(0.1), numpy.float32),
        ([1, 2], numpy.float64),
        (numpy.float16([1, 2]), numpy.float32),
        (numpy.arange(6.0).reshape(2, 3).T, numpy.float64),
        (float("nan"), numpy.float64),
    ],
)
def test_every_number_becomes_a_tensor(values, dtype):
    stream = io.BytesIO()
    protocol.send(stream, *protocol.packed(7, {}, {"x": values}))
    message, data = said(stream)
    assert message == {"id": 7, "tensors": len(data), "answer": {}}
    found = load(data)["x"]
    assert found.dtype == dtype and found.shape == numpy.shape(values)
    assert numpy.array_equal(found, numpy.asarray(values, dtype=dtype), equal_nan=True)


def test_an_exception_says_what_kind_it_is():
    for error, kind in [(Refused("no"), "refused"), (Unsupported("x"), "unsupported"), (KeyError("w"), "failed")]:
        stream = io.BytesIO()
        protocol.fail(stream, 1, error)
        assert said(stream)[0]["error"]["kind"] == kind


def test_rows_are_padded_at_the_right_with_what_is_ignored():
    rows = Batch.of([[[BATCH[0][0][0], {**BATCH[0][0][0], "input_ids": [4], "labels": [4]}]]]).micro_batches[0]
    padded = rows.padded(pad_token=9)
    assert padded["input_ids"] == [[1, 2, 3], [4, 9, 9]]
    assert padded["labels"] == [[1, -100, 3], [4, -100, -100]]
    assert padded["attention_mask"] == [[1, 1, 1], [1, 0, 0]]


def test_a_claim_is_known_by_its_name():
    assert claim("token-mean")["scope"] == "global"
    assert claim(["sum", "token-mean"])[0] == claim("sum")
    with pytest.raises(ValueError, match="naive-accumulated-mean"):
        claim("mean")


def test_the_page_lists_every_claim_and_every_role():
    root = pathlib.Path(__file__).parents[4]
    page = (root / "docs" / "adapters.md").read_text()
    schema = json.loads((root / "fixtures" / "schemas" / "answer.json").read_text())
    roles = [one["const"] for one in schema["$defs"]["Role"]["oneOf"]]
    assert len(roles) > 20
    assert [name for name in [*CLAIMS, *roles] if f"`{name}`" not in page] == []

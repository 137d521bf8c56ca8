"""LEAF JSON: FEMNIST, and what is wrong with files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, load

Content = dict[str, Any]


def _content(users: dict[str, int], first: float = 0.0) -> Content:
    """Users with so many samples of 2 x 2 pixels; the first pixel tells the user and the sample."""
    data = {
        user: {
            "x": [[first + sample / 64, 0.125, 1.0, 0.0] for sample in range(count)],
            "y": [sample % 3 for sample in range(count)],
        }
        for user, count in users.items()
    }
    return {"users": list(users), "num_samples": list(users.values()), "user_data": data}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "train" / "data_3.json", _content({"b": 2, "d": 1}))
    _write(tmp_path / "train" / "data_7.json", _content({"c": 3}, first=0.5))
    _write(tmp_path / "test" / "data_0.json", _content({"c": 1, "a": 2}, first=0.25))
    return tmp_path


def test_users_in_sorted_order(folder: Path) -> None:
    data = load(DataConfig("leaf", str(folder)))
    assert data.train_writer is not None
    assert data.train_writer.tolist() == [0, 0, 1, 1, 1, 2]
    assert data.test_writer is not None
    assert data.test_writer.tolist() == [-1, -1, 1]  # a, who trains nowhere, and c
    assert data.train_x.dtype == np.float32
    assert data.train_x[:, 0, 0, 0].tolist() == [0.0, 1 / 64, 0.5, 0.5 + 1 / 64, 0.5 + 2 / 64, 0.0]
    assert data.train_y.tolist() == [0, 1, 0, 1, 2, 0]
    assert data.test_x[:, 0, 0, 0].tolist() == [0.25, 0.25 + 1 / 64, 0.25]
    assert data.test_y.tolist() == [0, 1, 0]
    assert data.input_shape == (1, 2, 2)
    assert data.classes == 3


def test_inverted(folder: Path) -> None:
    plain = load(DataConfig("leaf", str(folder)))
    assert np.array_equal(load(DataConfig("leaf", str(folder), invert=True)).test_x, 1 - plain.test_x)


def test_femnist(femnist_dir: Path) -> None:
    data = load(DataConfig("leaf", str(femnist_dir)))
    assert data.train_x.shape == (14_708, 1, 28, 28)
    assert data.test_x.shape == (4_088, 1, 28, 28)
    assert data.classes == 62
    assert data.train_writer is not None
    counts = np.bincount(data.train_writer)
    assert (counts.size, counts.min(), counts.max()) == (105, 4, 165)
    assert (np.diff(data.train_writer) >= 0).all()
    assert data.test_writer is not None
    assert np.unique(data.test_writer).tolist() == list(range(-1, 105))
    assert np.count_nonzero(data.test_writer >= 0) == 1_685
    assert np.median(data.train_x) == 1.0  # the background is white

    path = min((femnist_dir / "train").glob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    names = sorted(
        user
        for p in path.parent.glob("*.json")
        for user in json.loads(p.read_text(encoding="utf-8"))["users"]
    )
    user = content["users"][0]
    mine = data.train_writer == names.index(user)
    assert np.array_equal(data.train_y[mine], content["user_data"][user]["y"])
    expected = np.array(content["user_data"][user]["x"], dtype=np.float32)
    assert np.array_equal(data.train_x[mine].reshape(len(expected), -1), expected)


def test_users_may_be_integers(folder: Path) -> None:
    """Keys of JSON objects are strings whatever they were before."""
    expected = load(DataConfig("leaf", str(folder)))
    for path in folder.glob("*/*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        numbers = {"a": 9, "b": 10, "c": 11, "d": 12}
        content["user_data"] = {str(numbers[user]): data for user, data in content["user_data"].items()}
        content["users"] = [numbers[user] for user in content["users"]]
        _write(path, content)
    found = load(DataConfig("leaf", str(folder)))
    assert np.array_equal(found.train_x, expected.train_x)  # "10" < "11" < "12"
    assert np.array_equal(found.train_writer, expected.train_writer)
    assert found.test_y.tolist() == [0, 0, 1]  # "11" < "9"
    assert found.test_writer is not None
    assert found.test_writer.tolist() == [1, -1, -1]


def test_users_without_test_samples(folder: Path) -> None:
    expected = load(DataConfig("leaf", str(folder)))
    _write(folder / "test" / "data_1.json", _content({"d": 0, "b": 0}))
    found = load(DataConfig("leaf", str(folder)))
    assert np.array_equal(found.test_x, expected.test_x)
    assert np.array_equal(found.test_y, expected.test_y)


def test_somebody_must_have_test_samples(folder: Path) -> None:
    _write(folder / "test" / "data_0.json", _content({"c": 0, "a": 0}))
    with pytest.raises(DataError, match="test: no user with samples is in its files"):
        load(DataConfig("leaf", str(folder)))


def test_hidden_files_are_no_data(folder: Path) -> None:
    expected = load(DataConfig("leaf", str(folder)))
    for part in ("train", "test"):
        (folder / part / "._data_3.json").write_bytes(b"\x00\x05\x16\x07")
        (folder / part / ".data_3.json").write_text("{", encoding="ascii")
    assert np.array_equal(load(DataConfig("leaf", str(folder))).train_x, expected.train_x)


Damage = Callable[[Content], object]


def _count_wrong(content: Content) -> None:
    content["num_samples"][0] = 5


def _user_without_data(content: Content) -> None:
    del content["user_data"]["b"]


def _too_few_counts(content: Content) -> None:
    content["num_samples"].pop()


def _label_missing(content: Content) -> None:
    content["user_data"]["b"]["y"].pop()


def _label_no_integer(content: Content) -> None:
    content["user_data"]["b"]["y"][0] = 0.5


def _label_negative(content: Content) -> None:
    content["user_data"]["b"]["y"][0] = -1


def _ragged(content: Content) -> None:
    content["user_data"]["b"]["x"][0].pop()


def _no_square(content: Content) -> None:
    for row in content["user_data"]["b"]["x"]:
        row.pop()


def _text(content: Content) -> None:
    content["user_data"]["b"]["x"][0][0] = "ink"


def _out_of_range(content: Content) -> None:
    content["user_data"]["b"]["x"][0][0] = 255.0


def _not_a_number(content: Content) -> None:
    content["user_data"]["b"]["x"][0][0] = float("nan")


def _no_samples(content: Content) -> None:
    content["user_data"]["b"] = {"x": [], "y": []}
    content["num_samples"][0] = 0


def _label_huge(content: Content) -> None:
    content["user_data"]["b"]["y"][0] = 10**6


def _label_beyond_int64(content: Content) -> None:
    content["user_data"]["b"]["y"][0] = 10**30


def _label_bool(content: Content) -> None:
    content["user_data"]["b"]["y"] = [True, False]


def _pixel_huge(content: Content) -> None:
    content["user_data"]["b"]["x"][0][0] = 10**400


def _pixel_of_text(content: Content) -> None:
    content["user_data"]["b"]["x"][0][0] = "0.5"


def _pixel_null(content: Content) -> None:
    content["user_data"]["b"]["x"][0][0] = None


def _x_of_numbers(content: Content) -> None:
    content["user_data"]["b"]["x"] = [0.5, 0.5]


def _x_of_lists(content: Content) -> None:
    content["user_data"]["b"]["x"] = [[[0.0]] * 4] * 2


def _count_of_text(content: Content) -> None:
    content["num_samples"][0] = "2"


def _count_bool(content: Content) -> None:
    content["num_samples"][1] = True


def _count_huge(content: Content) -> None:
    content["num_samples"][0] = 10**400


def _user_is_null(content: Content) -> None:
    content["users"][0] = None


def _same_user_twice(content: Content) -> None:
    content["users"] = ["b", "b"]


def _user_is_list(content: Content) -> None:
    content["users"][0] = ["b"]


def _key_missing(content: Content) -> None:
    del content["users"]


def _no_x(content: Content) -> None:
    del content["user_data"]["b"]["x"]


def _user_elsewhere(content: Content) -> None:
    content.update(_content({"c": 1}))


def _other_size(content: Content) -> None:
    content["user_data"]["b"]["x"] = [[0.0] * 9] * 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_count_wrong, r"data_3\.json: user 'b': 2 x and 2 y are there, num_samples says 5"),
        (_user_without_data, r"data_3\.json: 2 users, 2 num_samples and 1 user_data"),
        (_too_few_counts, r"data_3\.json: 2 users, 1 num_samples and 2 user_data"),
        (_label_missing, r"user 'b': 2 x and 1 y are there, num_samples says 2"),
        (_label_no_integer, "user 'b': labels y are not integers"),
        (_label_negative, "user 'b': labels y are not integers from 0 to 999999"),
        (_ragged, "user 'b': x or y are not numbers in rows of one length"),
        (_no_square, r"user 'b': x has shape \(2, 3\), rows of a square number"),
        (_text, "user 'b': x holds values that are no numbers"),
        (_out_of_range, r"user 'b': x has values from 0\.0 to 255\.0, 0 to 1 expected"),
        (_not_a_number, "user 'b': x has values from nan to nan"),
        (_no_samples, "user 'b': 0 x and 0 y are there, num_samples says 0"),
        (_label_huge, "user 'b': labels y are not integers from 0 to 999999"),
        (_label_beyond_int64, "user 'b': labels y are not integers"),
        (_label_bool, "user 'b': labels y are not integers"),
        (_pixel_huge, "user 'b': x holds values that are no numbers"),
        (_pixel_of_text, "user 'b': x holds values that are no numbers"),
        (_pixel_null, "user 'b': x holds values that are no numbers"),
        (_x_of_lists, r"user 'b': x has shape \(2, 4, 1\)"),
        (_x_of_numbers, r"user 'b': x has shape \(2,\), rows of a square number"),
        (_count_of_text, "user 'b': 2 x and 2 y are there, num_samples says '2'"),
        (_count_bool, "user 'd': 1 x and 1 y are there, num_samples says True"),
        (_count_huge, r"num_samples says 1000.*\.\.\."),
        (_user_is_null, "users are not all strings or integers"),
        (_user_is_list, "users are not all strings or integers"),
        (_same_user_twice, r"2 users, 2 num_samples and 2 user_data are there"),
        (_key_missing, r"data_3\.json: an object with users, num_samples and user_data is expected"),
        (_no_x, "user 'b': an object with lists x and y is expected"),
        (_user_elsewhere, r"data_7\.json: user 'c' is already in another file"),
        (_other_size, r"samples of several sizes are there .*\(1, 3, 3\).*\(1, 2, 2\)"),
    ],
)
def test_inconsistent_content_is_named(folder: Path, damage: Damage, message: str) -> None:
    path = folder / "train" / "data_3.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)
    _write(path, content)
    with pytest.raises(DataError, match=message):
        load(DataConfig("leaf", str(folder)))


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe\x00", b"no json", b"[1, 2]", b"[" * 100_000])
def test_files_that_are_no_leaf_json(folder: Path, garbage: bytes) -> None:
    (folder / "test" / "data_0.json").write_bytes(garbage)
    with pytest.raises(DataError, match=r"data_0\.json: "):
        load(DataConfig("leaf", str(folder)))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short(folder: Path, fraction: float) -> None:
    path = folder / "train" / "data_7.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(DataError, match=r"data_7\.json: is cut short or no JSON"):
        load(DataConfig("leaf", str(folder)))


def test_test_samples_of_another_size(folder: Path) -> None:
    content = _content({"a": 1})
    content["user_data"]["a"]["x"] = [[0.0] * 9]
    _write(folder / "test" / "data_0.json", content)
    with pytest.raises(DataError, match=r"training samples are \(1, 2, 2\) and test samples \(1, 3, 3\)"):
        load(DataConfig("leaf", str(folder)))


def test_missing_folders_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "test" / "data_0.json").unlink()
    with pytest.raises(DataError, match=r"test: no \*\.json file is there"):
        load(DataConfig("leaf", str(folder)))
    with pytest.raises(DataError, match=r"nowhere/train: no \*\.json"):
        load(DataConfig("leaf", str(tmp_path / "nowhere")))

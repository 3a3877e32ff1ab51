import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.errors import DatasetError
from mmlu_pipe.jsonl import (
    MAX_DEPTH,
    MAX_LISTED,
    dump_line,
    list_problems,
    parse_object,
    raw_lines,
    read_objects,
)

texts = st.text(st.characters(exclude_categories=()), max_size=12)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
objects = st.dictionaries(texts, values, max_size=4)


# Reading


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n  \n"])
def test_lines_are_read_whatever_their_ends_and_marks(tmp_path, mark, newline, end):
    path = tmp_path / "data.jsonl"
    path.write_bytes(mark + newline.join([b'{"a": 1}', b"", b"  \t", '{"é": "\u2028"}'.encode()]) + end)
    assert list(read_objects(path)) == [(1, {"a": 1}), (4, {"é": "\u2028"})]


def test_a_file_of_nothing_has_no_lines(tmp_path):
    for content in (b"", b"\n\n", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\r\n"):
        path = tmp_path / "data.jsonl"
        path.write_bytes(content)
        assert list(raw_lines(path)) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_and_32_are_named(tmp_path, encoding):
    path = tmp_path / "data.jsonl"
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    path.write_bytes(mark + '{"a": 1}\n'.encode(encoding))
    with pytest.raises(DatasetError, match="is UTF-16 or UTF-32; save it as UTF-8"):
        list(raw_lines(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(DatasetError, match="cannot be read") as caught:
            list(raw_lines(path))
        assert caught.value.path == path


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON .*column 2"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON .Extra data, column 10"),
        (b'{"a": "\n"}', "is not JSON"),
        (b'{"a": "caf\xe9"}', r"is not UTF-8 \(byte 11\)"),
        (b'{"a": NaN}', "holds NaN, which is not JSON"),
        (b'{"a": [-Infinity]}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999, which is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "4300 digits"),
        (b"[1]", "is a JSON array, not an object"),
        (b'"text"', "is a JSON string, not"),
        (b"7", "is a JSON number, not"),
        (b"1.5", "is a JSON number, not"),
        (b"true", "is a JSON boolean, not"),
        (b"null", "is a JSON null, not"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", r"is nested too deeply \(more than 100 levels\)"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", r"is nested too deeply \(more than 100 levels\)"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, r"is nested too deeply \(more than 100 levels\)"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_wrong_with_a_line_is_said(raw, said):
    with pytest.raises(ValueError, match=said):
        parse_object(raw)


def test_as_deep_and_as_full_of_brackets_as_allowed():
    deepest = '{"a": ' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"
    assert parse_object(deepest) == json.loads(deepest)
    brackets = {"a": "[" * 1000, "b": [[]] * 500}
    assert parse_object(json.dumps(brackets)) == brackets


def test_the_first_bad_line_is_named_with_its_number(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": 1}\n\n[]\n{', encoding="utf-8")
    lines = read_objects(path)
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(DatasetError, match=":3: is a JSON array") as caught:
        next(lines)
    assert (caught.value.path, caught.value.line_number) == (path, 3)


def test_problems_are_listed_and_counted(tmp_path):
    list_problems(tmp_path, [])
    with pytest.raises(DatasetError) as caught:
        list_problems(tmp_path, [(7, "is bad")])
    assert str(caught.value) == f"{tmp_path}: 1 bad line; mend or remove:\n  line 7: is bad"
    assert (caught.value.line_number, caught.value.exit_code) == (7, 2)
    with pytest.raises(DatasetError) as caught:
        list_problems(tmp_path, ((number, "is bad") for number in range(1, MAX_LISTED + 4)))
    message = str(caught.value).splitlines()
    assert message[0].endswith(f"{MAX_LISTED + 3} bad lines; mend or remove:")
    assert (len(message), message[-1]) == (MAX_LISTED + 2, "  … and 3 more")


# Writing


@given(objects)
def test_what_is_written_is_read_again(tmp_path_factory, value):
    line = dump_line(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert parse_object(line) == value
    assert list(parse_object(line)) == list(value)  # keys keep their order

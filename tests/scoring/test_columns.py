import json
import random
import re
from collections import Counter
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmlu_pipe.errors import DatasetError
from mmlu_pipe.jsonl import parse_object, raw_lines, read_objects
from mmlu_pipe.scoring.accuracy import judge
from mmlu_pipe.scoring.columns import count_alike

KEYS = frozenset({"subject", "correct_answer", "zero_shot_choice"})


def line(question="Which bone?", response=1, *, subject="anatomy", correct=1, choices=("Ulna", "Femur"), **more):
    known = {"dataset": "mmlu", "subject": subject, "question": question, "choices": list(choices)}
    return known | more | {"correct_answer": correct, "zero_shot_choice": response}


def text(value):
    return json.dumps(value, ensure_ascii=False)


def alike(folder, lines, *, end="\n"):
    """What is counted of lines that are texts or bytes."""
    path = folder / "output.jsonl"
    raw = [each.encode(errors="surrogatepass") if isinstance(each, str) else each for each in lines]
    path.write_bytes(b"\n".join(raw) + end.encode())
    return path, count_alike(path, keys=KEYS)


def outcomes(counted):
    """What the score is made of."""
    found = Counter()
    for value, times in counted:
        known = value.get("correct_answer") is not None
        outcome = known and judge(value, response_key="zero_shot_choice", correct_key="correct_answer")
        found[json.dumps([value.get("subject"), outcome])] += times
    return found


def exactly(path):
    return outcomes((value, 1) for _, value in read_objects(path))


def leniently(raw):
    """A line of which the exact reader may refuse just what the engine accepts where the score does not look."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', raw.decode())
    parts[::2] = [re.sub(r",(\s*[]}])", r"\1", part) for part in parts[::2]]
    parts[::2] = [re.sub(r"(?i)\b(nan|inf(inity)?)\b", "Infinity", part) for part in parts[::2]]
    value = json.loads("".join(parts))
    if value is None:
        return {}  # the component refuses lines without a correct answer
    assert isinstance(value, dict)
    assert not any(isinstance(value.get(key), list | dict) or value.get(key) in (inf, -inf) for key in KEYS)
    return value


def as_documented(path):
    """What is to be counted: every line as the exact reader has it, or else leniently."""
    values = []
    for _, raw in raw_lines(path):
        try:
            values.append((parse_object(raw), 1))
        except ValueError:
            values.append((leniently(raw), 1))
    return outcomes(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("columns")


def test_lines_that_score_alike_come_once_with_their_number(folder):
    _, found = alike(folder, [text(line(str(number), number % 2)) for number in range(10)])
    known = {"subject": "anatomy", "correct_answer": 1, "choices": [None, None]}
    assert sorted(found, key=str) == [(known | {"zero_shot_choice": response}, 5) for response in (0, 1)]


def test_texts_with_quotes_backslashes_and_any_script_are_alike(folder):
    texts = [
        'He said "no", "yes": [1]',
        "a\\",
        '\\"',
        "\\\\n",
        "地理 é 😀 \x7f",
        "\n\t\u0000",
        '", "choices": ["a"], "',
    ]
    path, found = alike(folder, [text(line()), *(text(line(each, choices=[each, each])) for each in texts)])
    assert [times for _, times in found] == [1 + len(texts)]
    assert outcomes(found) == exactly(path)


JSON_TEXTS = ["1", "1.0", "1e0", "-0", "-0.0", "true", "null", '"1"', '"\\u0031"', '" 1 "', '""', '"地\\ud83d\\ude00"']
JSON_TEXTS += [
    "0.1000000000000000055",
    "1" * 40,
    f"{2**64}",
    f"{-(2**63) - 1}",
    f'"{"1" * 40}"',
    '"\\u0000\\/"',
    '"NaN"',
]


@pytest.mark.parametrize("correct", JSON_TEXTS)
@pytest.mark.parametrize("choices", ["", ', "choices": null', ', "choices": ["a", {"b": [1]}]'])
def test_every_kind_of_value_keeps_its_meaning(folder, correct, choices):
    lines = [f'{{"correct_answer": {correct}, "zero_shot_choice": {each}{choices}}}' for each in JSON_TEXTS]
    path, found = alike(folder, [*lines, f'{{"correct_answer": {correct}}}', f'{{"subject": {correct}}}'])
    assert outcomes(found) == exactly(path)


@pytest.mark.parametrize(
    "other",
    [
        text(dict(reversed(line().items()))),
        json.dumps(line(), separators=(",", ":")),
        text(line(extra={"correct_answer": 0, "score": [1e300, -0.0]})),
        '{"\\u0063orrect_answer": 0}',
        '{"Correct_Answer": 0, "correct_answer": 1, "CHOICES": 5, "Subject": "x"}',
        '{"z": 1, "z": 2, "correct_answer": 1}',
        "{}",
        "",
        "  ",
        "\r",
        text(line()) + " \t\r",
        "\t " + text(line()),
    ],
)
def test_lines_of_another_build_are_counted(folder, other):
    for lines in ([text(line()), other], [other, text(line())]):
        path, found = alike(folder, lines)
        assert outcomes(found) == exactly(path)


def test_a_byte_order_mark_windows_line_ends_and_a_missing_last_line_feed_are_fine(folder):
    for lines, end in (
        ([b"\xef\xbb\xbf" + text(line()).encode(), text(line())], ""),
        ([text(line()) + "\r"] * 2, "\n\n"),
    ):
        path, found = alike(folder, lines, end=end)
        assert outcomes(found) == exactly(path)


REFUSED = [
    *(f'{{"correct_answer": {each}}}' for each in ["NaN", "-inf", "1e400", "[1,]", '{"a": 1}', "[" * 101 + "]" * 101]),
    '{"correct_answer": ' + "1" * 5000 + "}",
    '{"correct_answer": 1, "choices": 5}',
    '{"correct_answer": 1, "choices": {}}',
    '{"correct_answer": 1, "choices": "ab"}',
    '{"correct_answer": 1, "correct_answer": 1}',
    '{"correct_answer": 1, "\\u0063orrect_answer": 1}',
    '{"correct_answer": 1, "choices": [], "choices": [1]}',
    '{"correct_answer": 1, "z": "\\ud800"}',
    '{"correct_answer": 1, "z": "\\udc00\\ud800"}',
    '{"correct_answer": 1, "z": "\x01"}',
    '{"correct_answer": 1, "z": "\t"}',
    '{"correct_answer": 1, "z": "\udcff"}',
    b'{"correct_answer": 1, "z": "\xff"}',
    b'{"correct_answer": 1, "z": "\xc0\x80"}',
    '{"correct_answer": 1}\x0c',
    '{"correct_answer": 1}\x0b',
    "\x0c",
    '{"correct_answer": 1}{"correct_answer": 1}',
    '{"correct_answer": 1} {"correct_answer": 1}',
    '{"correct_answer": 1}\r{"correct_answer": 1}',
    '{"correct_answer": 1},',
    '{"correct_answer": 1',
    '{"correct_answer": 1\n}',
    '"correct_answer": 1}',
    '[{"correct_answer": 1}]',
    '"text"',
    "7",
    "\x00",
    '{"correct_answer": 1}\x00',
    '{"correct_answer": 1, "z": 01}',
    '{"correct_answer": 1, "z": [,]}',
    '{"correct_answer": 1, "z": [1,,]}',
    '{"correct_answer": 1, "z": tRUE}',
    '{"correct_answer": 1 /* one */}',
    "{'correct_answer': 1}",
    text(line()).replace('"Which bone?"', '"Which" "bone?"'),
    text(line()).replace("bone", "\\x"),
]


@pytest.mark.parametrize("other", REFUSED)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_that_may_be_bad_leaves_the_file_to_the_exact_reader(folder, other, place):
    lines = [text(line())] * 2
    lines.insert(place, other)
    assert alike(folder, lines)[1] is None


def test_a_line_that_is_null_or_has_a_second_byte_order_mark_is_not_counted_as_an_answer(folder):
    assert alike(folder, [text(line()), "\ufeff" + text(line())])[1] is None
    assert ({}, 1) in alike(folder, [text(line()), "null"])[1]


LENIENT = [
    "1,",
    '1, "z": [1,]',
    '1, "z": NaN',
    '1, "z": -inf',
    '1, "z": 1e400',
    '1, "z": ' + "9" * 5000,
    '1, "z": ' + "[" * 101 + "]" * 101,
    '1, "choices": ["a", "b",]',
    '1, "choices": ["a", NaN]',
]


@pytest.mark.parametrize("rest", LENIENT)
def test_what_stands_where_the_score_does_not_look_is_read_leniently(folder, rest):
    path, found = alike(folder, [text(line()), f'{{"zero_shot_choice": 1, "correct_answer": {rest}}}'])
    assert outcomes(found) == Counter({'["anatomy", "correct"]': 1, '[null, "correct"]': 1})
    with pytest.raises(DatasetError):
        exactly(path)


def test_more_groups_than_a_score_has_are_left_to_the_exact_reader(folder):
    assert alike(folder, [text(line(str(n), response=str(n))) for n in range(20_001)])[1] is None


@pytest.mark.parametrize("key", ["Subject", "choices", "Choices", ""])
def test_keys_that_the_engine_cannot_tell_apart_or_name_are_left_to_the_exact_reader(folder, key):
    path, _ = alike(folder, [text({"subject": "a", key: 1})])
    assert count_alike(path, keys=KEYS | {key}) is None


@pytest.mark.parametrize(
    "key", ["a b", "a.b", "$.a", "it's", 'a"b', "a\\b", "é", "É", "地", "rowid", "n", "v0", "*", "a\n", "\0"]
)
def test_a_key_may_have_any_other_name(folder, key):
    path, _ = alike(folder, [text({key: 1, "é": 2}), text({key: 1, "É": 3}), text({key + "x": 1})])
    found = count_alike(path, keys=frozenset({key}))
    assert sum(times for value, times in found if key in value) == sum(key in value for _, value in read_objects(path))
    assert count_alike(path, keys=KEYS, absent=key) is None
    assert count_alike(path, keys=KEYS, absent=key + "y") is not None


def test_a_key_that_no_line_may_have_is_found_with_null_and_with_escapes(folder):
    for bad in ('{"mine": null}', '{"m\\u0069ne": 1}'):
        path, found = alike(folder, [text(line()), bad])
        assert found is not None
        assert count_alike(path, keys=KEYS, absent="mine") is None
    path, _ = alike(folder, [text(line(other={"mine": 1}))])
    assert count_alike(path, keys=KEYS, absent="mine") is not None


@pytest.mark.parametrize("length", [1_900_000, 5_000_000, 20_000_000])
def test_a_very_long_line_is_counted_or_left_to_the_exact_reader(folder, length):
    path, found = alike(folder, [text(line()), text(line("x" * length)), text(line(response=0))])
    assert found is None or outcomes(found) == exactly(path)


def test_a_name_with_marks_of_a_pattern_reads_no_other_file(tmp_path):
    folder = tmp_path / "subject=2026" / "[ab]"
    folder.mkdir(parents=True)
    assert alike(folder, [text(line())])[1] is None
    (tmp_path / "subject=2026" / "a").mkdir()
    (tmp_path / "subject=2026" / "it's.jsonl").write_text(text(line()) + "\n", encoding="utf-8")
    found = count_alike(tmp_path / "subject=2026" / "it's.jsonl", keys=KEYS)
    assert [(value["subject"], times) for value, times in found] == [("anatomy", 1)]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
built = st.builds(
    line,
    st.text(),
    st.sampled_from([0, 1, 2, -1, 1.0, "1", " 1", True, None, "B"]),
    subject=st.sampled_from(["anatomy", "地理", 'a"b', 5]),
    correct=st.sampled_from([0, 1, "1", None]),
    choices=st.lists(st.text(), min_size=2, max_size=3),
)
free = st.dictionaries(st.sampled_from([*KEYS, "choices", "Subject", "x"]) | st.text(max_size=4), values)
written = st.builds(
    lambda value, ascii_only, tight: json.dumps(
        value, ensure_ascii=ascii_only, separators=(",", ":") if tight else None
    ),
    built | built | free,
    st.booleans(),
    st.integers(0, 5).map(lambda number: number == 0),
)
PIECES = [
    '"',
    "\\",
    ",",
    ", ",
    ":",
    "]",
    "}",
    "[",
    "{",
    " ",
    "\t",
    "\r",
    "\x0b",
    "\x0c",
    "NaN",
    "1e999",
    "null",
    '""',
    "\n",
]


@st.composite
def damaged(draw):
    raw = draw(written)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(raw)))
        cut = draw(st.integers(0, 2))
        raw = raw[:place] + draw(st.sampled_from(["", *PIECES])) + raw[place + cut :]
    return raw


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(damaged(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_whatever_is_counted_is_what_the_exact_reader_finds(folder, lines, chance):
    plain = [text(line(chance.choice("abc"), random.Random(0).randrange(2))) for _ in range(2)]
    path, found = alike(folder, plain + lines)
    if found is not None:
        assert outcomes(found) == as_documented(path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(built, min_size=1, max_size=6))
def test_whole_lines_of_the_usual_keys_are_counted(folder, lines):
    path, found = alike(folder, [text(line()), *map(text, lines)])
    assert outcomes(found) == exactly(path)

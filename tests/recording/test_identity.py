import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.recording.identity import PERSONAL_FIELDS, request_hash, request_meaning
from mmlu_pipe.recording.scrub import scrub_request_body

MODEL = "gpt-4o"
ENUM = {"type": "string", "enum": ["0", "1"]}
BODY = {
    "model": "a-deployment",
    "messages": [
        {"role": "system", "content": "Answer with a number."},
        {"role": "user", "content": "Which?"},
    ],
    "temperature": 0,
    "max_tokens": 5,
    "response_format": {"type": "json_schema", "json_schema": {"name": "choice", "strict": True, "schema": ENUM}},
}

texts = st.text(st.characters(exclude_categories=()), max_size=20)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), texts, st.floats(allow_nan=False))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}), max_size=4
)
bodies = st.fixed_dictionaries(
    {"messages": messages},
    optional={
        "model": texts,
        "temperature": st.floats(0, 2),
        "seed": st.integers(0, 99) | st.none(),
        "max_tokens": st.integers(1, 9),
        "stop": st.lists(texts, max_size=2),
        "response_format": values,
        "stream": st.booleans(),
        "user": texts,
        "metadata": values,
    },
)


def hashed(**changes):
    return request_hash({key: value for key, value in (BODY | changes).items() if value is not ...}, MODEL)


def reordered(value, draw):
    if isinstance(value, dict):
        keys = draw(st.permutations(sorted(value, key=repr)))
        return {key: reordered(value[key], draw) for key in keys}
    return [reordered(member, draw) for member in value] if isinstance(value, list) else value


@given(bodies, st.data())
def test_the_order_of_keys_never_counts(body, data):
    assert request_hash(reordered(body, data.draw), MODEL) == request_hash(body, MODEL)


@given(bodies)
def test_a_request_is_still_the_same_after_it_was_recorded(body):
    recorded = json.loads(scrub_request_body(body, MODEL))
    assert request_hash(recorded, recorded["model"]) == request_hash(body, MODEL)


@given(bodies)
def test_whole_floats_are_integers_anywhere(body):
    def floated(value):
        if isinstance(value, int) and not isinstance(value, bool) and float(value) == value:
            return float(value)
        if isinstance(value, dict):
            return {key: floated(member) for key, member in value.items()}
        return [floated(member) for member in value] if isinstance(value, list) else value

    assert request_hash(floated(body), MODEL) == request_hash(body, MODEL)


@given(bodies, texts)
def test_a_text_is_the_text_parts_that_make_it_up(body, text):
    whole = [*body["messages"], {"role": "user", "content": text}]
    for cut in range(len(text) + 1):
        parts = [{"type": "text", "text": part} for part in (text[:cut], text[cut:])]
        split = [*body["messages"], {"role": "user", "content": parts}]
        assert request_hash(body | {"messages": split}, MODEL) == request_hash(body | {"messages": whole}, MODEL)


@given(bodies, st.sampled_from(["stream", "stream_options", "model", *PERSONAL_FIELDS]), values)
def test_transport_flags_and_names_of_people_never_count(body, field, value):
    assert request_hash(body | {field: value}, MODEL) == request_hash(body, MODEL)


@given(bodies, st.integers(0, 3), texts, texts)
def test_any_other_text_of_a_message_is_another_request(body, place, before, after):
    if not body["messages"] or before == after:
        return
    place %= len(body["messages"])

    def with_text(text):
        changed = [dict(message) for message in body["messages"]]
        changed[place]["content"] = text
        return request_hash(body | {"messages": changed}, MODEL)

    assert with_text(before) != with_text(after)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": -0.0},
        {"seed": None},
        {"max_tokens": ..., "max_completion_tokens": 5},
        {"max_tokens": 5.0},
        {"model": "another-deployment"},
        {"model": ...},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "ada", "safety_identifier": "x", "metadata": {"run": "7"}},
        {"messages": [message | {"name": None} for message in BODY["messages"]]},
        {
            "messages": [
                message | {"content": [{"type": "text", "text": message["content"]}]} for message in BODY["messages"]
            ]
        },
    ],
    ids=str,
)
def test_the_same_request(changes):
    assert hashed(**changes) == hashed()


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": ...},
        {"temperature": 0.1},
        {"temperature": False},
        {"seed": 0},
        {"top_p": 1},
        {"stop": ["\n"]},
        {"logprobs": True},
        {"reasoning_effort": "low"},
        {"max_tokens": 6},
        {"max_tokens": ...},
        {"max_completion_tokens": 6},
        {"response_format": ...},
        {"response_format": {"type": "json_object"}},
        {"messages": BODY["messages"][:1]},
        {"messages": BODY["messages"][::-1]},
        {"messages": [BODY["messages"][0], {"role": "assistant", "content": "Which?"}]},
        {"messages": [BODY["messages"][0], {"role": "user", "content": "Which? "}]},
        {"messages": [BODY["messages"][0], {"role": "user", "content": "Which?", "name": "ada"}]},
        {"messages": [BODY["messages"][0], {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    ],
    ids=str,
)
def test_another_request(changes):
    assert hashed(**changes) != hashed()


def test_another_declared_model_is_another_request():
    assert request_hash(BODY, "gpt-4o-mini") != request_hash(BODY, MODEL)


def test_unicode_forms_are_other_texts():
    def asked(text):
        return hashed(messages=[{"role": "user", "content": text}])

    assert len({asked("caf\u00e9"), asked("cafe\u0301"), asked("cafe")}) == 3


def test_the_order_of_options_counts_and_null_inside_a_schema_stays():
    schema = {"type": ["string", "null"], "enum": ["a", None], "default": None}
    meaning = request_meaning(BODY | {"response_format": {"type": "json_schema", "json_schema": schema}}, MODEL)
    assert meaning["response_format"]["json_schema"] == schema
    other = schema | {"enum": [None, "a"]}
    assert hashed(response_format={"json_schema": schema}) != hashed(response_format={"json_schema": other})


def test_the_meaning_does_not_change_the_body():
    before = json.dumps(BODY)
    request_meaning(BODY, MODEL)
    assert json.dumps(BODY) == before

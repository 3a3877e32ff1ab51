"""What a deployment accepts: the sourced table, the body that fits it, and what an HTTP 400 corrects."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.capabilities import (
    REQUIRABLE,
    RULES,
    SOURCES,
    Capabilities,
    Requirement,
    apply,
    correction,
    family,
    parse_requirement,
    rejected_fields,
    settle,
    unmet,
)

PAGE = Path(__file__).parents[2] / "docs" / "capabilities.md"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
EVERYTHING: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Which?"}],
    "temperature": 0,
    "top_p": 0.5,
    "presence_penalty": 0.1,
    "seed": 7,
    "stop": ["\n"],
    "logprobs": True,
    "top_logprobs": 20,
    "stream": True,
    "stream_options": {"include_usage": True},
    "response_format": SCHEMA,
    "max_completion_tokens": 16,
    "reasoning_effort": "low",
}
MODELS = (
    "gpt-35-turbo",
    "gpt-3.5-turbo-0613",
    "gpt-35-turbo-1106",
    "gpt-35-turbo-16k",
    "gpt-35-turbo-instruct",
    "gpt-4",
    "gpt-4-0613",
    "gpt-4-1106-preview",
    "gpt-4-vision-preview",
    "gpt-4-32k",
    "gpt-4-turbo",
    "gpt-4-turbo-2024-04-09",
    "gpt-4o",
    "gpt-4o-2024-05-13",
    "GPT-4o-2024-08-06",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-4.5-preview",
    "o1",
    "o1-mini",
    "o1-preview",
    "o1-pro",
    "o3",
    "o3-mini",
    "o3-pro",
    "o4-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano-2025-08-07",
    "gpt-5-chat",
    "gpt-5-codex",
    "gpt-5-pro",
    "gpt-5.1",
    "gpt-5.1-chat",
    "gpt-5.2",
    "gpt-5.4-mini",
    "gpt-6",
    "gpt-oss-120b",
    "text-embedding-3-large",
    "Mistral-Large-2411",
    "Meta-Llama-3.1-8B-Instruct",
    "DeepSeek-R1",
    "Phi-4",
    "Qwen2.5-Coder-1.5B-Instruct",
    "our-own-model",
)
VERSIONS = (
    "2023-05-15",
    "2023-12-01-preview",
    "2024-02-01",
    "2024-02-15-preview",
    "2024-03-01-preview",
    "2024-05-01-preview",
    "2024-06-01",
    "2024-07-01-preview",
    "2024-08-01-preview",
    "2024-09-01-preview",
    "2024-10-01-preview",
    "2024-10-21",
    "2024-12-01-preview",
    "2025-01-01-preview",
    "2025-03-01-preview",
    "2025-04-01-preview",
    "preview",
    "latest",
    "v1",
)


def open_to_all(**changes: Any) -> Capabilities:
    accepting = Capabilities(
        model="m",
        api_version="v1",
        seed=True,
        logprobs=True,
        max_top_logprobs=20,
        stream_options=True,
        json_object=True,
        structured_outputs=True,
        token_limit="max_completion_tokens",
        reasoning_effort=("none", "low", "medium", "high"),
    )
    return replace(accepting, **changes)


# The table


@pytest.mark.parametrize(
    ("model", "version", "expected"),
    [
        (
            "gpt-4-32k",
            "2024-02-01",
            {
                "chat": True,
                "temperature": True,
                "seed": False,
                "logprobs": False,
                "structured_outputs": False,
                "stream_options": False,
                "token_limit": "max_tokens",
            },
        ),
        (
            "gpt-4o",
            "2024-10-21",
            {
                "temperature": True,
                "seed": True,
                "logprobs": True,
                "structured_outputs": True,
                "stream_options": True,
                "json_object": True,
                "reasoning_effort": (),
            },
        ),
        (
            "gpt-4.1",
            "v1",
            {"temperature": True, "logprobs": True, "structured_outputs": True, "max_top_logprobs": 20},
        ),
        (
            "o4-mini",
            "2025-04-01-preview",
            {
                "temperature": False,
                "top_p": False,
                "stop": False,
                "logprobs": False,
                "max_top_logprobs": 0,
                "structured_outputs": True,
                "token_limit": "max_completion_tokens",
                "reasoning_effort": ("low", "medium", "high"),
            },
        ),
        (
            "gpt-5",
            "v1",
            {
                "temperature": False,
                "logprobs": False,
                "token_limit": "max_completion_tokens",
                "reasoning_effort": ("minimal", "low", "medium", "high"),
            },
        ),
        ("gpt-5-chat", "v1", {"temperature": True, "structured_outputs": False, "reasoning_effort": ()}),
        ("gpt-5.1-chat", "v1", {"temperature": False, "structured_outputs": True}),
        ("gpt-5.4", "v1", {"reasoning_effort": ("none", "low", "medium", "high", "xhigh")}),
        ("o1", "2024-12-01-preview", {"stream": False, "structured_outputs": True}),
        (
            "o1-mini",
            "2024-12-01-preview",
            {"stream": False, "structured_outputs": False, "reasoning_effort": ()},
        ),
        ("o3-mini", "2024-10-21", {"reasoning_effort": (), "token_limit": "max_completion_tokens"}),
        ("gpt-4o", "2024-06-01", {"logprobs": True, "max_top_logprobs": 5, "structured_outputs": False}),
        ("gpt-4o-2024-05-13", "v1", {"structured_outputs": False, "json_object": True}),
        ("gpt-4-turbo", "v1", {"structured_outputs": False, "logprobs": True, "either_token_limit": False}),
        ("Mistral-Large-2411", "v1", {"seed": False, "stream_options": False, "token_limit": "max_tokens"}),
        ("DeepSeek-R1", "v1", {"structured_outputs": False, "json_object": False}),
        ("our-own-model", "2024-06-01", {"token_limit": "max_tokens", "logprobs": True}),
        ("our-own-model", "v1", {"token_limit": "max_completion_tokens", "structured_outputs": True}),
    ],
)
def test_a_deployment_accepts_what_its_sources_say(model: str, version: str, expected: dict[str, Any]) -> None:
    known = settle(model, version)
    assert {name: getattr(known, name) for name in expected} == expected


@pytest.mark.parametrize(
    "model",
    [
        "text-embedding-3-large",
        "text-embedding-ada-002",
        "text-davinci-003",
        "gpt-35-turbo-instruct",
        "gpt-5-codex",
        "gpt-5.1-codex-mini",
        "codex-mini",
        "gpt-5-pro",
        "gpt-5.4-pro",
        "o1-pro",
        "o3-pro",
        "o3-deep-research",
        "gpt-4o-realtime-preview",
        "gpt-4o-mini-transcribe",
        "gpt-image-1",
        "whisper",
    ],
)
def test_models_without_chat_completions_are_known(model: str) -> None:
    assert not settle(model, "v1").chat


@pytest.mark.parametrize(
    "model", ["Phi-4-mini-instruct", "Llama-3.3-70B-Instruct", "gpt-35-turbo", "o1", "gpt-5.1-chat"]
)
def test_chat_models_have_chat_whatever_their_names_resemble(model: str) -> None:
    assert settle(model, "v1").chat


@pytest.mark.parametrize(
    ("feature", "first_preview", "before", "first_ga", "ga_before"),
    [
        ("seed", "2023-12-01-preview", "2023-09-01-preview", "2024-02-01", "2023-05-15"),
        ("json_object", "2023-12-01-preview", "2023-09-01-preview", "2024-02-01", "2023-05-15"),
        ("logprobs", "2024-03-01-preview", "2024-02-15-preview", "2024-06-01", "2024-02-01"),
        ("structured_outputs", "2024-08-01-preview", "2024-07-01-preview", "2024-10-21", "2024-06-01"),
        ("stream_options", "2024-09-01-preview", "2024-08-01-preview", "2024-10-21", "2024-06-01"),
    ],
)
def test_a_feature_reaches_previews_and_ga_versions_at_their_own_dates(
    feature: str, first_preview: str, before: str, first_ga: str, ga_before: str
) -> None:
    assert [getattr(settle("gpt-4o", v), feature) for v in (first_preview, before, first_ga, ga_before)] == [
        True,
        False,
        True,
        False,
    ]


def test_a_ga_version_dated_after_a_preview_does_not_have_its_features_by_that() -> None:
    assert not settle("gpt-4o", "2024-09-01").structured_outputs
    assert settle("o3", "2025-01-01-preview").reasoning_effort
    assert not settle("o3", "2025-01-01").reasoning_effort


@pytest.mark.parametrize("version", ["v1", "preview", "latest", "V1", "", " v1 "])
def test_undated_versions_have_the_newest_behaviour(version: str) -> None:
    assert settle("gpt-4o", version) == replace(settle("gpt-4o", "v1"), api_version=version.strip().lower() or "v1")


@pytest.mark.parametrize("version", ["2024", "2024-10", "2024-10-21-beta", "newest", "2024-10-21preview"])
def test_a_misspelt_api_version_is_refused_at_once(version: str) -> None:
    with pytest.raises(ValueError, match="neither dated"):
        settle("gpt-4o", version)


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        ("GPT-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("gpt-4o-20240806", "gpt-4o-2024-08-06"),
        ("gpt-3.5-turbo", "gpt-35-turbo"),
        ("gpt-3-5-turbo", "gpt-35-turbo"),
        ("gpt35-turbo-16k", "gpt-35-turbo-16k"),
        ("GPT 4o mini", "gpt-4o-mini"),
        ("azure/gpt-4o", "gpt-4o"),
        ("openai:gpt-4.1-mini", "gpt-4.1-mini"),
        ("team-x-gpt4o", "gpt-4o"),
        ("gpt-41-mini", "gpt-4.1-mini"),
        ("gpt_5_1", "gpt-5.1"),
        ("gpt-4-1106-preview", "gpt-4-1106-preview"),
        ("gpt-4-32k", "gpt-4-32k"),
        ("gpt-5-2025-08-07", "gpt-5-2025-08-07"),
        ("eval-o3mini", "o3-mini"),
        ("prod-o1", "o1"),
        ("Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("demo1-model", "demo1-model"),
    ],
)
def test_a_name_is_read_with_its_prefixes_dates_dots_and_case(name: str, spelt: str) -> None:
    assert family(name) == spelt


def test_every_rule_has_a_source_and_every_source_a_rule() -> None:
    assert {rule.source for rule in RULES} == set(SOURCES)


def test_every_rule_sets_a_known_field_and_takes_effect_for_some_model() -> None:
    known = {field.name for field in fields(Capabilities)}
    for rule in RULES:
        assert set(rule.fields) <= known
        others = ("gpt-4o-audio-preview", "codex-mini", "gpt-5.4", *MODELS)
        assert any(re.match(rule.models, family(model)) for model in others), rule


def test_every_source_says_where_and_what() -> None:
    for source in SOURCES.values():
        assert source.url.startswith("https://")
        assert source.says
        assert re.fullmatch(r"(\d{4}-\d{2}-\d{2})?", source.dated)


def test_every_source_stands_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert [source.url for source in SOURCES.values() if source.url not in page] == []


def test_every_field_stands_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for rule in RULES for name in rule.fields if f"`{name}`" not in page] == []
    assert [name for name in REQUIRABLE if f"`{name}" not in page] == []


# The body that fits


def test_a_capable_deployment_gets_everything_as_wanted() -> None:
    wanted = {**EVERYTHING}
    body, dropped = apply(open_to_all(), wanted)
    assert body == wanted
    assert dropped == ()


def test_what_is_dropped_is_named_with_its_reason() -> None:
    body, dropped = apply(settle("gpt-5", "v1"), EVERYTHING)
    assert body.keys() == {
        "messages",
        "seed",
        "stream",
        "stream_options",
        "response_format",
        "max_completion_tokens",
        "reasoning_effort",
    }
    assert {drop.field for drop in dropped} == EVERYTHING.keys() - body.keys()
    assert all("gpt-5" in drop.reason and drop.sent is None for drop in dropped if drop.field != "top_logprobs")
    assert str(dropped[0]) == "temperature=0 is not sent: gpt-5 on v1 does not accept 'temperature'"


def test_the_token_limit_is_sent_under_the_accepted_name() -> None:
    body, dropped = apply(settle("gpt-4-32k", "2024-02-01"), {"max_completion_tokens": 8})
    assert body == {"max_tokens": 8}
    assert [(drop.field, drop.sent) for drop in dropped] == [("max_completion_tokens", {"max_tokens": 8})]
    assert "sent as max_tokens" in str(dropped[0])
    body, dropped = apply(settle("o4-mini", "v1"), {"max_tokens": 8})
    assert body == {"max_completion_tokens": 8}
    assert [drop.field for drop in dropped] == ["max_tokens"]


def test_of_two_token_limits_one_is_sent_and_the_other_named() -> None:
    for known in (settle("gpt-4o", "v1"), settle("gpt-5", "v1")):
        body, dropped = apply(known, {"max_tokens": 8, "max_completion_tokens": 9})
        assert body == {known.token_limit: 9}
        assert "max_tokens" in [drop.field for drop in dropped]


def test_top_logprobs_is_clamped_and_the_clamp_told() -> None:
    body, dropped = apply(settle("gpt-4o", "2024-06-01"), {"logprobs": True, "top_logprobs": 20})
    assert body == {"logprobs": True, "top_logprobs": 5}
    assert [(drop.wanted, drop.sent) for drop in dropped] == [(20, 5)]


def test_fields_that_need_another_field_go_with_it() -> None:
    body, dropped = apply(settle("o1", "v1"), {"stream_options": {"include_usage": True}, "stream": True})
    assert body == {}
    assert {drop.field for drop in dropped} == {"stream", "stream_options"}
    body, dropped = apply(settle("gpt-4o", "v1"), {"top_logprobs": 3, "stream_options": {}})
    assert body == {}
    assert {drop.field for drop in dropped} == {"top_logprobs", "stream_options"}


def test_json_mode_and_structured_outputs_are_told_apart() -> None:
    known = settle("gpt-4-turbo", "v1")
    assert apply(known, {"response_format": {"type": "json_object"}})[0]
    assert apply(known, {"response_format": SCHEMA})[0] == {}


def test_an_effort_that_the_model_does_not_know_is_dropped() -> None:
    body, dropped = apply(settle("o3", "v1"), {"reasoning_effort": "minimal"})
    assert body == {}
    assert "low, medium, high" in dropped[0].reason


def test_none_means_not_wanted() -> None:
    assert apply(settle("gpt-5", "v1"), {"temperature": None, "seed": None}) == ({}, ())


def test_a_notice_about_a_schema_does_not_depend_on_the_schema() -> None:
    known = settle("gpt-4", "2024-02-01")
    one, other = ({"type": "json_schema", "json_schema": {"name": name}} for name in "ab")
    assert str(apply(known, {"response_format": one})[1][0]) == str(apply(known, {"response_format": other})[1][0])


def test_the_wanted_body_is_left_alone() -> None:
    wanted = {**EVERYTHING}
    apply(settle("gpt-5", "v1"), wanted)
    assert wanted == EVERYTHING


def test_refused_fields_of_a_wire_body_are_named() -> None:
    assert [field for field, _ in rejected_fields(settle("o4-mini", "v1"), {"temperature": 0, "max_tokens": 5})] == [
        "temperature",
        "max_tokens",
    ]
    both = {"max_tokens": 1, "max_completion_tokens": 1}
    assert [field for field, _ in rejected_fields(settle("gpt-4o", "v1"), both)] == ["max_tokens"]
    assert rejected_fields(settle("gpt-4o", "v1"), {"max_completion_tokens": 1}) == []
    assert rejected_fields(settle("gpt-4o", "v1"), {"response_format": {"type": "text"}, "stop": None}) == []


bodies = st.fixed_dictionaries(
    {"messages": st.just([{"role": "user", "content": "?"}])},
    optional={
        "temperature": st.sampled_from([0, 0.7, 1]),
        "top_p": st.sampled_from([0.1, 1]),
        "presence_penalty": st.just(0),
        "frequency_penalty": st.just(0.5),
        "logit_bias": st.just({"1": 1}),
        "seed": st.integers(0, 9),
        "stop": st.sampled_from(["\n", ["\n", "."], None]),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 25),
        "stream": st.booleans(),
        "stream_options": st.just({"include_usage": True}),
        "response_format": st.sampled_from([SCHEMA, {"type": "json_object"}, {"type": "text"}, None]),
        "max_completion_tokens": st.integers(1, 99),
        "max_tokens": st.integers(1, 99),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "high", "xhigh", None]),
        "user": st.just("u"),
    },
)


@settings(max_examples=400)
@given(model=st.sampled_from(MODELS), version=st.sampled_from(VERSIONS), wanted=bodies)
@example(model="o1", version="v1", wanted=EVERYTHING)
def test_a_fitted_body_holds_nothing_that_is_refused_and_hides_nothing(
    model: str, version: str, wanted: dict[str, Any]
) -> None:
    known = settle(model, version)
    body, dropped = apply(known, wanted)
    assert rejected_fields(known, body) == []
    told = {drop.field for drop in dropped}
    for field, value in wanted.items():
        if value is not None and body.get(field) != value:
            assert field in told
    added = body.keys() - wanted.keys()
    assert added <= {"max_tokens", "max_completion_tokens"}
    assert apply(known, body) == (body, ())


# What an HTTP 400 corrects

REFUSALS = [
    (
        {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        },
        {"token_limit": "max_tokens"},
        {"token_limit": "max_completion_tokens"},
    ),
    (
        {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "param": None,
        },
        {"token_limit": "max_tokens"},
        {"token_limit": "max_completion_tokens"},
    ),
    (
        {
            "message": "Unrecognized request argument supplied: max_completion_tokens",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        {},
        {"token_limit": "max_tokens"},
    ),
    (
        {
            "message": "Unsupported value: 'temperature' does not support 0 with this model. "
            "Only the default (1) value is supported.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "unsupported_value",
        },
        {},
        {"temperature": False},
    ),
    (
        {
            "message": "Unsupported parameter: 'temperature' is not supported with this model.",
            "param": "model",
        },
        {},
        {"temperature": False},
    ),
    (
        {
            "message": "Unsupported parameter: 'stop' is not supported with this model.",
            "code": "unsupported_parameter",
        },
        {},
        {"stop": False},
    ),
    (
        {
            "message": "Unsupported parameter: 'logit_bias' is not supported with this model.",
            "param": "logit_bias",
        },
        {},
        {"penalties": False},
    ),
    (
        {
            "message": "Unrecognized request argument supplied: stream_options. Please contact us through an Azure "
            "support request at: https://go.microsoft.com/fwlink/?linkid=2213926 for further questions.",
            "param": "",
        },
        {},
        {"stream_options": False},
    ),
    (
        {
            "message": "Unknown parameter: 'stream_options'.",
            "param": "stream_options",
            "code": "unknown_parameter",
        },
        {},
        {"stream_options": False},
    ),
    (
        {
            "message": "Unsupported value: 'stream' does not support true with this model. supported values are false.",
            "param": "stream",
            "code": "unsupported_value",
        },
        {},
        {"stream": False},
    ),
    (
        {"message": "Unrecognized request arguments supplied: logprobs, top_logprobs", "param": None},
        {},
        {"logprobs": False},
    ),
    (
        {"message": "Unrecognized request arguments supplied: seed, stream_options", "param": None},
        {},
        {"seed": False, "stream_options": False},
    ),
    (
        {"message": "Additional properties are not allowed ('logprobs' was unexpected)", "param": None},
        {},
        {"logprobs": False},
    ),
    (
        {"message": "This model does not support the 'logprobs' parameter.", "param": "logprobs"},
        {},
        {"logprobs": False},
    ),
    (
        {"message": "The deployment doesn't support logprobs request parameter.", "code": "422"},
        {},
        {"logprobs": False},
    ),
    ({"message": "True is not of type 'integer' - 'logprobs'", "param": None}, {}, {"logprobs": False}),
    (
        {
            "message": "logprobs, best_of and echo parameters are not available on gpt-35-turbo model. "
            "Please remove the parameter and try again."
        },
        {},
        {"logprobs": False},
    ),
    (
        {
            "requestid": "1",
            "code": 400,
            "message": "Validation error at #/logprobs: Extra inputs are not permitted",
        },
        {},
        {"logprobs": False},
    ),
    (
        {"message": "1 validation error for Request\nbody -> logprobs\n  extra fields not permitted (type=extra)"},
        {},
        {"logprobs": False},
    ),
    (
        {
            "code": "Invalid input",
            "status": 422,
            "message": '{"detail":[{"type":"extra_forbidden","loc":["body","seed"],'
            '"msg":"Extra inputs are not permitted","input":123}]}',
        },
        {},
        {"seed": False},
    ),
    (
        {
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options", "include_usage"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            }
        },
        {},
        {"stream_options": False},
    ),
    (
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"], "msg": "not permitted"}]},
        {},
        {"token_limit": "max_tokens"},
    ),
    (
        {"message": "Extra parameters ['seed'] are not allowed when extra-parameters is not set"},
        {},
        {"seed": False},
    ),
    (
        {
            "message": "Invalid value for 'top_logprobs': must be less than or equal to 5.",
            "param": "top_logprobs",
        },
        {},
        {"max_top_logprobs": 5, "logprobs": True},
    ),
    (
        {
            "message": "response_format value as json_schema is enabled only for api versions 2024-08-01-preview "
            "and later",
            "code": "BadRequest",
        },
        {},
        {"structured_outputs": False, "json_object": True},
    ),
    (
        {
            "message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. "
            "Learn more about supported models at the Structured Outputs guide",
            "param": None,
        },
        {},
        {"structured_outputs": False, "json_object": True},
    ),
    (
        {
            "message": "Invalid parameter: 'response_format' must be one of 'json_object', 'text'.",
            "param": "response_format",
        },
        {},
        {"structured_outputs": False, "json_object": True},
    ),
    (
        {
            "message": "Invalid parameter: 'response_format' of type 'json_object' is not supported with this model.",
            "param": "response_format",
        },
        {},
        {"structured_outputs": True, "json_object": False},
    ),
    (
        {"message": "This response_format type is unavailable now", "code": "invalid_request_error"},
        {},
        {"structured_outputs": False},
    ),
    (
        {
            "message": "Invalid value: 'none'. Supported values are: 'low', 'medium', and 'high'.",
            "param": "reasoning_effort",
            "code": "invalid_value",
        },
        {},
        {"reasoning_effort": ("low", "medium", "high")},
    ),
    (
        {"message": "Unknown parameter: 'reasoning_effort'.", "param": "reasoning_effort"},
        {},
        {"reasoning_effort": ()},
    ),
    ({"message": "Unrecognized request argument supplied: reasoning_effort"}, {}, {"reasoning_effort": ()}),
]


@pytest.mark.parametrize(("error", "before", "after"), REFUSALS)
def test_a_refusal_is_understood_in_every_wording_seen(
    error: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    known = open_to_all(**before)
    found = correction(known, 400, error)
    assert found is not None
    assert {name: getattr(found.capabilities, name) for name in after} == after
    untouched = (
        {field.name for field in fields(Capabilities)}
        - after.keys()
        - {
            "corrected",
            "max_top_logprobs",
            "either_token_limit",
        }
    )
    assert all(getattr(found.capabilities, name) == getattr(known, name) for name in untouched)
    assert found.field
    assert found.field in found.message


@pytest.mark.parametrize(("error", "before", "after"), REFUSALS)
def test_the_same_refusal_again_corrects_nothing_and_so_cannot_loop(
    error: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    known, rounds = open_to_all(**before), 0
    while (found := correction(known, 400, error)) is not None:
        assert found.capabilities != known
        known, rounds = found.capabilities, rounds + 1
        assert rounds < 4


@settings(max_examples=200)
@given(errors=st.lists(st.sampled_from([error for error, _, _ in REFUSALS]), max_size=60))
def test_no_sequence_of_refusals_is_corrected_for_ever(errors: list[dict[str, Any]]) -> None:
    known, rounds = open_to_all(either_token_limit=True), 0
    for error in errors:
        if found := correction(known, 400, error):
            known, rounds = found.capabilities, rounds + 1
            body, _ = apply(known, EVERYTHING)
            assert rejected_fields(known, body) == []
    assert rounds <= len(fields(Capabilities)) + 4


def test_a_token_limit_is_swapped_once_and_not_back() -> None:
    refusal = "Unrecognized request argument supplied: {}"
    first = correction(open_to_all(), 400, {"message": refusal.format("max_completion_tokens")})
    assert first is not None
    assert first.capabilities.corrected == ("token_limit",)
    assert correction(first.capabilities, 400, {"message": refusal.format("max_tokens")}) is None


@pytest.mark.parametrize(
    "error",
    [
        {
            "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
            "policy. Please modify your prompt and retry.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
        },
        {
            "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens "
            "(1000 in the messages, 8000 in the completion). Please reduce the length.",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        {
            "message": "max_tokens is too large: 20000. This model supports at most 16384 completion tokens, whereas "
            "you provided 20000.",
            "param": "max_tokens",
            "code": "invalid_value",
        },
        {
            "message": "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required "
            "to be supplied and to be false.",
            "param": "response_format",
        },
        {
            "message": "Invalid schema for response_format 'answer': In context=('properties', 'stop'), 'minLength' is "
            "not permitted.",
            "param": "response_format",
        },
        {
            "message": "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
            "'json_object'.",
            "param": "messages",
        },
        {
            "message": "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "param": "messages[0].role",
            "code": "unsupported_value",
        },
        {
            "message": "Additional properties are not allowed ('seed' was unexpected) - 'messages.0'",
            "param": None,
        },
        {"message": "Invalid 'temperature': decimal above maximum value.", "param": "temperature"},
        {"message": "Invalid 'max_tokens': must be less than or equal to 16384.", "param": "max_tokens"},
        {"message": "The 'stream_options' parameter is only allowed when 'stream' is enabled."},
        {
            "code": "OperationNotSupported",
            "message": "The chatCompletion operation does not work with the specified model, text-embedding-3-large.",
        },
        {"code": "BadRequest", "message": "API version not supported"},
        {"message": "Unsupported parameter: 'parallel_tool_calls' is not supported with this model."},
        {},
    ],
)
def test_other_bad_requests_correct_nothing(error: dict[str, Any]) -> None:
    for known in (open_to_all(), open_to_all(token_limit="max_tokens")):
        assert correction(known, 400, error) is None


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 500, 503])
def test_only_400_and_422_correct(status: int) -> None:
    error = {"message": "Unknown parameter: 'seed'.", "param": "seed"}
    assert correction(open_to_all(), status, error) is None
    assert correction(open_to_all(), 422, error) is not None


def test_a_field_that_is_off_already_is_no_correction() -> None:
    known = settle("gpt-5", "v1")
    assert correction(known, 400, {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}) is None


# What a run requires


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("temperature=0", Requirement("temperature", "0")),
        (" seed = 7 ", Requirement("seed", "7")),
        ("logprobs", Requirement("logprobs")),
        ("logprobs=5", Requirement("logprobs", "5")),
        ("structured_outputs", Requirement("structured_outputs")),
        ("stream_options", Requirement("stream_options")),
        ("reasoning_effort=low", Requirement("reasoning_effort", "low")),
    ],
)
def test_a_requirement_is_read(text: str, requirement: Requirement) -> None:
    assert parse_requirement(text) == requirement


def test_an_unknown_requirement_names_those_allowed() -> None:
    with pytest.raises(ValueError, match=r"unknown field 'top_k'; allowed are temperature, seed, .*reasoning_effort"):
        parse_requirement("top_k=1")


@pytest.mark.parametrize(
    "text", ["temperature=cold", "temperature=", "seed=1.5", "structured_outputs=yes", "logprobs=-1"]
)
def test_a_requirement_with_a_value_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no value of"):
        parse_requirement(text)


@pytest.mark.parametrize(
    ("model", "version", "texts", "missing"),
    [
        ("gpt-4o", "2024-10-21", ["temperature=0", "seed=1", "logprobs=20", "structured_outputs"], []),
        (
            "gpt-4o",
            "2024-06-01",
            ["logprobs=5", "logprobs=6", "stream_options"],
            ["logprobs=6", "stream_options"],
        ),
        (
            "gpt-5",
            "v1",
            ["temperature=0", "logprobs", "reasoning_effort=minimal"],
            ["temperature=0", "logprobs"],
        ),
        ("gpt-5", "v1", ["temperature=1", "reasoning_effort"], []),
        ("o3", "v1", ["reasoning_effort=minimal"], ["reasoning_effort=minimal"]),
        ("gpt-4-32k", "2024-02-01", ["structured_outputs"], ["structured_outputs"]),
        ("text-embedding-3-large", "v1", ["temperature=0"], ["temperature=0"]),
    ],
)
def test_what_is_required_and_not_accepted_is_named(
    model: str, version: str, texts: list[str], missing: list[str]
) -> None:
    messages = unmet(settle(model, version), [parse_requirement(text) for text in texts])
    assert [message.split(" is required")[0] for message in messages] == missing
    assert all(model in message and version in message for message in messages)

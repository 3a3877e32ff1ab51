"""Guidance programs on a chat endpoint over loopback HTTP, and the same programs on guidance's own engine."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guidance
import pydantic
import pytest
from guidance import (
    assistant,
    at_most_n_repeats,
    audio,
    block,
    capture,
    exactly_n_repeats,
    gen,
    gen_audio,
    image,
    lark,
    one_or_more,
    optional,
    regex,
    role,
    select,
    special_token,
    substring,
    system,
    token_limit,
    user,
    with_temperature,
    zero_or_more,
)
from guidance.models import Mock

from mmlu_pipe.endpoint import interpreter
from mmlu_pipe.endpoint.connect import Connection, ModelOptions, connect
from mmlu_pipe.endpoint.interpreter import MAX_OPTIONS, model_for_line
from mmlu_pipe.endpoint.json_schema import strict_schema
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import EndpointError, EndpointRejected, ProgramError, SelectFailed
from mmlu_pipe.records import Endpoint
from tests.servers.aoai import AoaiServer, Reply

Json = dict[str, Any]
Program = Callable[[Any], Any]
QUESTION = {"role": "user", "content": "Which?"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


def answering(*texts: str | Reply) -> Callable[[Json, int], str | Reply]:
    """Answer the requests with these texts, one after the other; an asked enum gets its JSON."""

    def answer(body: Json, count: int) -> str | Reply:
        if count >= len(texts):
            return Reply(status=400, error={"message": "one request too many"})
        text = texts[count]
        wanted = (body.get("response_format") or {}).get("json_schema", {}).get("name")
        chosen = wanted == "choice" and isinstance(text, str)
        return json.dumps({"choice": text}, separators=(",", ":")) if chosen else text

    return answer


@contextmanager
def connected(
    answer: Callable[[Json, int], str | Reply], model: str = "gpt-4o", served: str | None = None, **options: Any
) -> Iterator[tuple[AoaiServer, Connection]]:
    version = options.pop("api_version", "2024-10-21")
    with (
        AoaiServer({"dep": served or model}, answer=answer) as server,
        connect(Endpoint(server.endpoint, "dep", model, version), ModelOptions(**options)) as connection,
    ):
        yield server, connection


@contextmanager
def chatting(*replies: str | Reply, **options: Any) -> Iterator[tuple[Any, AoaiServer, LineSession]]:
    """A model for one line, the server behind it, and the line's session."""
    with connected(answering(*replies), **options) as (server, connection):
        session = LineSession(1)
        yield model_for_line(connection.model, session), server, session


def asked(lm: Any) -> Any:
    with user():
        lm += "Which?"
    return lm


# Every construct, on both kinds of model


@dataclass(frozen=True)
class Case:
    """A program, what the model says to it, and what must come out on either kind of model."""

    program: Program
    replies: Sequence[str] = ()
    captures: Json = field(default_factory=dict)
    said: str = ""  # the last assistant turn
    raw: Sequence[str] | None = None  # what an engine generates for the replies, where that differs


def in_turn(*parts: Any) -> Program:
    """Each part is appended in one assistant turn, after a question."""

    def program(lm: Any) -> Any:
        lm = asked(lm)
        with assistant():
            for part in parts:
                lm += part
        return lm

    return program


class Weather(pydantic.BaseModel):
    sunny: bool
    degrees: int


SCHEMA: Json = {
    "type": "object",
    "properties": {"name": {"type": "string", "enum": ["ann", "bob"]}},
    "required": ["name"],
    "additionalProperties": False,
}


@guidance.guidance(stateless=True)
def digit(lm: Any) -> Any:
    return lm + select(["0", "1", "2"])


@guidance.guidance(stateless=True)
def labelled(lm: Any, label: str) -> Any:
    return lm + f"{label}: " + select(["no", "yes"], name="labelled")


@guidance.guidance
def twice(lm: Any, name: str) -> Any:
    lm += "First " + select(["a", "b"], name=f"{name}1")
    lm += f", then {lm[f'{name}1']}"
    return lm + select(["a", "b"], name=f"{name}2")


def several_turns(lm: Any) -> Any:
    with system():
        lm += "Be brief."
    with user():
        lm += "One?"
    with assistant():
        lm += gen("first", max_tokens=20)
    with user():
        lm += f"Two, after {lm['first']}?"
    with assistant():
        lm += select(["yes", "no"], name="second")
    return lm


def with_list(lm: Any) -> Any:
    lm = asked(lm)
    with assistant():
        for _ in range(3):
            lm += " " + select(["a", "b"], name="all", list_append=True)
    return lm


def with_variables(lm: Any) -> Any:
    lm = asked(lm)
    lm = lm.set("mine", "x").set("gone", "y").set("many", ["p", "q"]).remove("gone")
    assert "gone" not in lm
    assert lm.get("gone", "default") == "default"
    assert lm.log_prob("mine") is None
    with assistant():
        lm += f"{lm['mine']}" + select(["a", "b"], name="answer")
    return lm


def with_nothing(lm: Any) -> Any:
    lm = asked(lm + "")
    with assistant():
        lm += ""
        lm += select(["a", "b"], name="answer")
        lm += ""
    return lm


def in_block(lm: Any) -> Any:
    lm = asked(lm)
    with assistant():
        lm += "So: "
        with block("whole"):
            lm += "it is " + select(["a", "b"], name="part")
        lm += "."
    return lm


def with_top_p(lm: Any) -> Any:
    lm = asked(lm.with_sampling_params({"top_p": 0.5}))
    with assistant():
        lm += gen("free", max_tokens=20)
    return lm


AB = ("a", "b")
CASES: dict[str, Case] = {
    "select": Case(in_turn(select(AB, name="x")), ["b"], {"x": "b"}, "b"),
    "select after text": Case(in_turn("The answer is ", select(AB, name="x")), ["b"], {"x": "b"}, "The answer is b"),
    "select in an expression": Case(
        in_turn("Answer: " + select(AB, name="x") + "."), ["b"], {"x": "b"}, "Answer: b."
    ),
    "select, then gen": Case(
        in_turn(select(AB, name="x") + " as " + gen("why", max_tokens=30)), ["b", "it is"], {"x": "b", "why": "it is"},
        "b as it is",
    ),
    "gen, then select": Case(
        in_turn(gen("why", max_tokens=30), " so ", select(AB, name="x")), ["since", "b"], {"why": "since", "x": "b"},
        "since so b",
    ),
    "two selects": Case(
        in_turn(select(AB, name="x"), " or ", select(AB, name="y")), ["b", "a"], {"x": "b", "y": "a"}, "b or a"
    ),
    "two selects in an expression": Case(
        in_turn(select(AB, name="x") + "-" + select(AB, name="y")), ["b", "a"], {"x": "b", "y": "a"}, "b-a"
    ),
    "select of selects": Case(in_turn(select([select(AB), select(["c", "d"])], name="x")), ["c"], {"x": "c"}, "c"),
    "select of joined literals": Case(
        in_turn(select(["x" + select(["1", "2"]), "y"], name="x")), ["x2"], {"x": "x2"}, "x2"
    ),
    "select of a function": Case(in_turn(select([digit(), "none"], name="x")), ["2"], {"x": "2"}, "2"),
    "a function that selects": Case(in_turn(digit()), ["1"], {}, "1"),
    "a captured function": Case(in_turn(capture(digit(), "x")), ["1"], {"x": "1"}, "1"),
    "a function with text and a capture": Case(
        in_turn(labelled("Is it")), ["yes"], {"labelled": "yes"}, "Is it: yes"
    ),
    "a stateful function": Case(
        in_turn(twice("t")), ["b", "a"], {"t1": "b", "t2": "a"}, "First b, then ba"
    ),
    "an f-string": Case(in_turn(f"It is {select(AB, name='x')}!"), ["a"], {"x": "a"}, "It is a!"),
    "an f-string with a stateful function": Case(
        in_turn(f"Now: {twice('t')}"), ["a", "b"], {"t1": "a", "t2": "b"}, "Now: First a, then ab"
    ),
    "optional text, taken": Case(in_turn("I am ", capture(optional("not "), "x"), "sure"), ["not "], {"x": "not "},
                                 "I am not sure"),
    "optional inside select": Case(
        in_turn(select(["a" + optional("b"), "c"], name="x")), ["ab"], {"x": "ab"}, "ab"
    ),
    "a bounded repetition": Case(in_turn(capture(at_most_n_repeats("ab", 2), "x")), ["abab"], {"x": "abab"},
                                 "abab"),
    "an exact repetition": Case(in_turn(capture(exactly_n_repeats("ab", 3), "x")), [], {"x": "ababab"}, "ababab"),
    "int options": Case(in_turn(select([1, 10, 2], name="x")), ["10"], {"x": "10"}, "10"),
    "the shorter of two options": Case(in_turn(select([1, 10, 2], name="x")), ["1"], {"x": "1"}, "1"),
    "duplicate options": Case(in_turn(select(["a", "a", "b", "b"], name="x")), ["b"], {"x": "b"}, "b"),
    "one option": Case(in_turn(select(["only"], name="x")), [], {"x": "only"}, "only"),
    "one option, twice": Case(in_turn(select(["a", "a"], name="x") + "!"), [], {"x": "a"}, "a!"),
    "unnamed select": Case(in_turn(select(AB)), ["b"], {}, "b"),
    "list_append": Case(with_list, ["a", "b", "a"], {"all": ["a", "b", "a"]}, " a b a"),
    "gen": Case(in_turn(gen("g", max_tokens=30, temperature=0.5)), ["free text"], {"g": "free text"}, "free text"),
    "gen with stop": Case(in_turn(gen("g", stop="x"), "|"), ["abc"], {"g": "abc"}, "abc|", raw=["abcx"]),
    "gen with list_append": Case(
        in_turn(gen("g", stop=".", list_append=True), "; ", gen("g", stop=".", list_append=True)), ["one", "two"],
        {"g": ["one", "two"]}, "one; two", raw=["one.", "two."],
    ),
    "json of a pydantic model": Case(
        in_turn(guidance.json("j", schema=Weather)), ['{"sunny": true, "degrees": 7}'],
        {"j": '{"sunny": true, "degrees": 7}'}, '{"sunny": true, "degrees": 7}',
    ),
    "json of a schema": Case(
        in_turn(guidance.json("j", schema=SCHEMA)), ['{"name": "bob"}'], {"j": '{"name": "bob"}'}, '{"name": "bob"}'
    ),
    "json of any kind": Case(
        in_turn(guidance.json("j")), ['{"a": 1}'], {"j": '{"a": 1}'}, '{"a": 1}'
    ),
    "several turns": Case(several_turns, ["one", "no"], {"first": "one", "second": "no"}, "no"),
    "variables": Case(with_variables, ["b"], {"mine": "x", "many": ["p", "q"], "answer": "b"}, "xb"),
    "nothing appended": Case(with_nothing, ["b"], {"answer": "b"}, "b"),
    "a named block": Case(in_block, ["b"], {"part": "b", "whole": "it is b"}, "So: it is b."),
    "a capture around an expression": Case(
        in_turn(capture("It is " + select(AB, name="x") + ".", "whole")), ["b"], {"x": "b", "whole": "It is b."},
        "It is b.",
    ),
    "sampling parameters": Case(with_top_p, ["free"], {"free": "free"}, "free"),
    "with_temperature": Case(in_turn(with_temperature(select(AB, name="x"), 0.5)), ["b"], {"x": "b"}, "b"),
    "with_temperature over an expression": Case(
        in_turn(with_temperature("It is " + select(AB, name="x"), 0.5)), ["b"], {"x": "b"}, "It is b"
    ),
    "token_limit": Case(in_turn(token_limit(gen("g"), 20)), ["free"], {"g": "free"}, "free"),
}  # fmt: skip


def captures_of(lm: Any, expected: Json) -> Json:
    return {name: lm[name] for name in expected}


def chat_ml(messages: Sequence[Json]) -> str:
    """A conversation as guidance's engines write it, with its assistant turn open."""
    text = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return (
        text.removesuffix("<|im_end|>\n") if messages[-1]["role"] == "assistant" else text + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_program_gives_the_same_captures_on_both_kinds_of_model(case: Case) -> None:
    with chatting(*case.replies) as (lm, server, session):
        lm = case.program(lm)
        conversations = [body["messages"] for body in server.bodies]
    assert captures_of(lm, case.captures) == case.captures
    assert str(lm).endswith(f"<|assistant|>\n{case.said}")
    assert len(conversations) == len(case.replies) == len(session.calls)

    generated = zip(conversations, case.raw or case.replies, strict=True)
    patterns = [f"<s>{chat_ml(messages)}{reply}<s>".encode() for messages, reply in generated]
    on_engine = case.program(Mock(byte_patterns=patterns))
    assert captures_of(on_engine, case.captures) == case.captures
    assert str(on_engine).endswith(f"<|im_start|>assistant\n{case.said}")
    assert set(on_engine._interpreter.state.captures) == set(lm._interpreter.state.captures)


@pytest.mark.parametrize("kind", ["chat", "engine"])
def test_two_copies_of_a_model_go_their_own_ways(kind: str) -> None:
    with chatting("a", "b", "a") as (chat, _server, _session):
        start = "<s><|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n"
        lm = chat if kind == "chat" else Mock(byte_patterns=[f"{start}{text}<s>".encode() for text in ("L:a", "R:b")])
        lm = asked(lm)
        with assistant():
            left = lm + "L:" + select(AB, name="x", list_append=True)
            right = lm + "R:" + select(AB, name="x", list_append=True)
            more = left + "L:" + select(["a"], name="x", list_append=True)
        assert (left["x"], right["x"], more["x"]) == (["a"], ["b"], ["a", "a"])
        assert "x" not in lm
        assert str(left).endswith("L:a")
        assert str(right).endswith("R:b")
        assert str(lm).endswith("Which?")


# What goes over the wire


def test_text_before_an_answer_is_the_last_message_and_grows_into_one() -> None:
    def program(lm: Any) -> Any:
        with system():
            lm += "Be brief."
        lm = asked(lm)
        with assistant():
            lm += "Answer: " + select(AB, name="x") + ", because " + gen("why", max_tokens=30)
        with user():
            lm += "Sure?"
        with assistant():
            lm += gen("sure", max_tokens=30)
        return lm

    with chatting("b", "it is", "yes") as (lm, server, session):
        lm = program(lm)
    brief = {"role": "system", "content": "Be brief."}
    whole = {"role": "assistant", "content": "Answer: b, because it is"}
    assert [body["messages"] for body in server.bodies] == [
        [brief, QUESTION, {"role": "assistant", "content": "Answer: "}],
        [brief, QUESTION, {"role": "assistant", "content": "Answer: b, because "}],
        [brief, QUESTION, whole, {"role": "user", "content": "Sure?"}],
    ]
    assert [call.messages for call in session.calls] == [body["messages"] for body in server.bodies]
    assert str(lm).startswith("<|system|>\nBe brief.\n<|user|>\nWhich?\n<|assistant|>\nAnswer: b, because it is\n")


def test_the_parameters_of_a_gen_are_sent_and_end_with_it() -> None:
    with chatting("one", "two", "a") as (lm, server, _session):
        in_turn(gen("g", max_tokens=7, temperature=0.5, stop="x"), gen("h"), select(AB))(lm)
    first, second, third = server.bodies
    assert {name: first[name] for name in ("max_tokens", "temperature", "stop")} == {
        "max_tokens": 7,
        "temperature": 0.5,
        "stop": ["x"],
    }
    assert "response_format" not in first
    assert (second["temperature"], third["temperature"]) == (0, 0)
    assert not {"max_tokens", "max_completion_tokens", "stop"} & {*second, *third}


def test_an_inner_temperature_goes_before_an_outer_one() -> None:
    with chatting("one", "b") as (lm, server, _session):
        in_turn(with_temperature(gen("g", temperature=0.2) + select(AB, name="x"), 0.9))(lm)
    assert [body["temperature"] for body in server.bodies] == [0.2, 0.9]


def test_top_p_is_sent_with_gen_and_with_select() -> None:
    with chatting("free", "b") as (lm, server, _session):
        in_turn(gen("g"), select(AB))(lm.with_sampling_params({"top_p": 0.5}))
    assert [body["top_p"] for body in server.bodies] == [0.5, 0.5]


def test_stop_holds_on_a_deployment_that_does_not_take_it() -> None:
    with chatting("abc x def", model="o4-mini", api_version="v1") as (lm, server, _session):
        lm = in_turn(gen("g", stop="x"), "|")(lm)
    assert lm["g"] == "abc "
    assert str(lm).endswith("abc |")
    assert "stop" not in server.bodies[0]


def test_an_empty_stop_is_none() -> None:
    with chatting("abc") as (lm, server, _session):
        assert in_turn(gen("g", stop=""))(lm)["g"] == "abc"
    assert "stop" not in server.bodies[0]


def test_an_empty_turn_is_no_message() -> None:
    def program(lm: Any) -> Any:
        lm = asked(lm)
        with assistant():
            lm += select(["", "a"], name="x")
        with user():
            lm += "Again?"
        with assistant():
            lm += gen("g")
        return lm

    with chatting("", "b") as (lm, server, _session):
        lm = program(lm)
    assert lm["x"] == ""
    assert server.bodies[1]["messages"] == [QUESTION, {"role": "user", "content": "Again?"}]


def test_a_second_assistant_turn_is_asked_after_the_first() -> None:
    def program(lm: Any) -> Any:
        lm = asked(lm)
        with assistant():
            lm += "Yes."
        with assistant():
            lm += select(AB, name="x")
        return lm

    with chatting("b") as (lm, server, _session):
        lm = program(lm)
    assert server.bodies[0]["messages"] == [QUESTION, {"role": "assistant", "content": "Yes."}]
    assert str(lm).endswith("<|assistant|>\nYes.\n<|assistant|>\nb")


def test_a_json_schema_is_sent_as_strict_structured_outputs_take_it() -> None:
    class Inner(pydantic.BaseModel):
        default: int = 3

    class Outer(pydantic.BaseModel):
        inner: Inner
        many: list[Inner] = []
        either: int | None = None

    reply = '{"inner":{"default":1},"many":[],"either":null}'
    with chatting(reply) as (lm, server, _session):
        lm = in_turn(guidance.json("j", schema=Outer, max_tokens=50))(lm)
    sent = server.bodies[0]
    schema = sent["response_format"]["json_schema"]["schema"]
    assert Outer.model_validate_json(lm["j"]).inner.default == 1
    assert (sent["response_format"]["type"], sent["max_tokens"]) == ("json_schema", 50)
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert (schema["required"], schema["additionalProperties"]) == (["inner", "many", "either"], False)
    assert schema["$defs"]["Inner"] == {
        "additionalProperties": False,
        "properties": {"default": {"title": "Default", "type": "integer"}},
        "required": ["default"],
        "title": "Inner",
        "type": "object",
    }
    assert "default" not in schema["properties"]["either"]


def test_a_strict_schema_leaves_what_it_does_not_know() -> None:
    given = {
        "type": "object",
        "properties": {"a": {"allOf": [{"type": "array", "items": {"properties": {"b": True}}}]}},
        "additionalProperties": {"type": "string"},
    }
    assert strict_schema(given) == {
        "type": "object",
        "properties": {
            "a": {
                "allOf": [
                    {
                        "type": "array",
                        "items": {"additionalProperties": False, "properties": {"b": True}, "required": ["b"]},
                    }
                ]
            }
        },
        "additionalProperties": {"type": "string"},
        "required": ["a"],
    }


def test_json_of_any_kind_is_json_mode() -> None:
    with chatting('{"a":1}') as (lm, server, _session):
        in_turn(guidance.json("j"))(lm)
    assert server.bodies[0]["response_format"] == {"type": "json_object"}


def test_an_answer_to_json_that_is_none_fails_the_line() -> None:
    with chatting("no json") as (lm, _server, _session), pytest.raises(EndpointError, match="is no JSON: 'no json'"):
        in_turn(guidance.json("j"))(lm)


@pytest.mark.parametrize(("model", "served"), [("gpt-4-32k", "gpt-4-32k"), ("gpt-4o", "gpt-4o-2024-05-13")])
def test_json_needs_structured_outputs_by_the_table_or_by_the_endpoint(model: str, served: str) -> None:
    with chatting("{}", model=model, served=served) as (lm, server, _session):
        with pytest.raises(ProgramError, match=r"guidance\.json cannot work here: .* use a newer aoai_api_version"):
            in_turn(guidance.json("j", schema=SCHEMA))(lm)
        assert len(server.bodies) == (model != served)


# Captured log-probabilities


def token(text: str, logprob: float, **others: float) -> Json:
    top = [{"token": text, "logprob": logprob}, *({"token": name, "logprob": value} for name, value in others.items())]
    return {"token": text, "logprob": logprob, "top_logprobs": top}


def chosen(option: str, logprob: float) -> Reply:
    given = [token('{"choice":"', -9.0), token(option, logprob), token('"}', 0.0)]
    return Reply(f'{{"choice":"{option}"}}', logprobs=given)


def test_log_prob_is_that_of_the_raw_logprobs() -> None:
    with chatting(chosen("b", -0.25), chosen("a", -3.5)) as (lm, _server, session):
        lm = in_turn(select(AB, name="x"), select(AB, name="x2"))(lm)
    assert (lm.log_prob("x"), lm.log_prob("x2")) == (pytest.approx(-0.25), pytest.approx(-3.5))
    assert lm.log_prob("none", "default") == "default"
    assert session.calls[0].distribution == {"b": pytest.approx(math.exp(-0.25))}


def test_log_prob_of_a_capture_is_that_of_all_selects_in_it() -> None:
    both = select(AB, name="x", list_append=True) + " " + select(AB, name="x", list_append=True)
    with chatting(chosen("b", -0.25), chosen("a", -0.5), chosen("a", -1.0)) as (lm, _server, _session):
        lm = in_turn(capture(both, "both"), capture("text", "literal"), select(AB, name="after"))(lm)
    assert lm.log_prob("both") == pytest.approx(-0.75)
    assert lm.log_prob("x") == [pytest.approx(-0.25), pytest.approx(-0.5)]
    assert lm.log_prob("after") == pytest.approx(-1.0)
    assert lm.log_prob("literal") is None


def test_log_prob_is_none_where_a_part_has_none() -> None:
    unknown = Reply('{"choice":"a"}', logprobs=[])
    with chatting(chosen("b", -0.25), "free", unknown) as (lm, _server, _session):
        lm = in_turn(capture(select(AB, name="x") + gen("g"), "both"), select(AB, name="y"))(lm)
    assert (lm.log_prob("both"), lm.log_prob("g"), lm.log_prob("y")) == (None, None, None)
    assert lm.log_prob("x") == pytest.approx(-0.25)


# Failing in the middle, threads


def test_a_failed_answer_leaves_the_model_as_it_was() -> None:
    with chatting("b", Reply('{"choice":"z"}'), "a") as (lm, server, session):
        lm = in_turn(select(AB, name="x"))(lm)
        with assistant():
            lm += " and "
            with pytest.raises(SelectFailed):
                lm += "then " + select(AB, name="y")
            assert str(lm).endswith("<|assistant|>\n and ")
            lm += select(AB, name="z")
    assert (lm["x"], lm["z"], "y" in lm) == ("b", "a", False)
    assert server.bodies[2]["messages"][-1] == {"role": "assistant", "content": " and "}
    assert [call.index for call in session.calls] == [0, 1, 2]


def test_programs_on_many_threads_do_not_mix() -> None:
    def answer(body: Json, _count: int) -> str:
        number = int(body["messages"][0]["content"])
        if "response_format" in body:
            return json.dumps({"choice": str(number % 4)})
        return f"because of {number}"

    def one(connection: Connection, number: int) -> tuple[Any, LineSession]:
        session = LineSession(number)
        lm = model_for_line(connection.model, session)
        with user():
            lm += str(number)
        with assistant():
            lm += "Is " + select([str(option) for option in range(4)], name="x") + " " + gen("why")
        return lm, session

    with connected(answer, workers=16) as (server, connection), ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: one(connection, number), range(320)))
    assert len(server.requests) == 640
    for number, (lm, session) in enumerate(found):
        assert (lm["x"], lm["why"]) == (str(number % 4), f"because of {number}")
        assert str(lm) == f"<|user|>\n{number}\n<|assistant|>\nIs {number % 4} because of {number}"
        assert [call.line_number for call in session.calls] == [number, number]


def test_a_model_of_another_kind_is_copied_as_it_is() -> None:
    lm = Mock().set("a", "1")
    copy = model_for_line(lm, LineSession(1))
    assert copy is not lm
    assert copy["a"] == "1"


def test_a_function_can_be_watched_as_a_stream() -> None:
    @guidance.guidance
    def whole(lm: Any) -> Any:
        return in_turn("So ", select(AB, name="x"), " as ", gen("g"))(lm)

    with chatting("b", "it is") as (lm, _server, session):
        texts = [str(state) for state in lm.stream() + whole()]
    assert texts[-1] == "<|user|>\nWhich?\n<|assistant|>\nSo b as it is"
    assert texts == sorted(texts, key=len)
    assert len(session.calls) == 2


# What cannot work


def adder(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@guidance.guidance(stateless=True)
def recursive(lm: Any) -> Any:
    return lm + select(["a", "(" + recursive() + ")"])


@guidance.guidance(stateless=True)
def endless(lm: Any) -> Any:
    return lm + "a" + gen() + endless()


def in_role(opened: Any, part: Any) -> Program:
    def program(lm: Any) -> Any:
        lm = asked(lm)
        with opened:
            lm += part
        return lm

    return program


def nested(lm: Any) -> Any:
    with user():
        lm += "Which?"
        with assistant():
            lm += gen("g")
    return lm


def without_a_question(lm: Any) -> Any:
    with assistant():
        lm += select(AB, name="x")
    return lm


def sampled(**parameters: Any) -> Program:
    return lambda lm: in_turn(gen("g"))(lm.with_sampling_params(parameters))


MANY = [str(number) for number in range(MAX_OPTIONS + 1)]
REFUSED: dict[str, tuple[Program, str, str]] = {
    "gen(regex)": (in_turn(gen("g", regex=r"\d+")), "gen(regex=…)", "use select([...])"),
    "regex": (in_turn(regex(r"\d+", name="g")), "regex(…)", "use select([...])"),
    "gen(stop=[..])": (in_turn(gen("g", stop=["x", "y"])), "gen(stop=[…])", "use one text: gen(stop='…')"),
    "gen(stop_regex)": (in_turn(gen("g", stop_regex="x+")), "gen(stop_regex=…)", "use one text: gen(stop='…')"),
    "gen(suffix)": (in_turn(gen("g", suffix=".")), "gen(suffix=…)", "add the text after the gen"),
    "gen(save_stop_text)": (in_turn(gen("g", stop="x", save_stop_text=True)), "save_stop_text", "leave it out"),
    "gen(tools)": (in_turn(gen(tools=[adder])), "gen(tools=…)", "calling the function in the program"),
    "substring": (in_turn(substring("some text", name="g")), "substring(…)", "use select([...])"),
    "lark": (in_turn(lark('start: "a" | "b"', name="g")), "lark(…)", "use guidance.json"),
    "zero_or_more": (in_turn(zero_or_more("a")), "zero_or_more", "gen(…) for free text"),
    "one_or_more": (in_turn(one_or_more("a")), "one_or_more", "gen(…) for free text"),
    "one_or_more in select": (in_turn(select([one_or_more("a"), "b"])), "one_or_more", "gen(…) for free text"),
    "recursion in select": (in_turn(recursive()), "a recursive grammar", "use guidance.json"),
    "recursion": (in_turn(endless()), "a recursive grammar", "use guidance.json"),
    "capture in select": (
        in_turn(select([select(["1"], name="inner") + "!", "b"], name="x")), "'inner' is captured inside a select",
        "select([...], name=…)",
    ),
    "gen in select": (in_turn(select([gen(), "b"])), "gen(…) inside a select", "a gen(…) of its own"),
    "regex in select": (in_turn(select([regex("a+"), "b"])), "a regular expression", "use select([...])"),
    "token_limit over parts": (in_turn(token_limit("a" + gen("g"), 5)), "token_limit(…)", "use gen(max_tokens=…)"),
    "special_token": (in_turn(special_token("<|eot|>")), "special_token(…)", "the role blocks"),
    "image": (in_role(user(), image(b"image")), "image(…)", "use text"),
    "image by address": (in_role(user(), image("https://example.com/a.png")), "image(…)", "use text"),
    "audio": (in_role(user(), audio(b"sound")), "audio(…)", "use text"),
    "gen_audio": (in_turn(gen_audio()), "gen_audio(…)", "use gen(…)"),
    "gen as the user": (in_role(user(), gen("g")), "gen(…) stands in the role 'user'", "with assistant():"),
    "select as the system": (in_role(system(), select(AB)), "select stands in the role 'system'", "with assistant():"),
    "json as the user": (in_role(user(), guidance.json("j")), "guidance.json stands in", "with assistant():"),
    "text outside of roles": (lambda lm: lm + "Hello", "the text 'Hello' stands outside of a role", "with user():"),
    "gen outside of roles": (lambda lm: lm + gen("g"), "the generation 'g' stands outside", "with assistant():"),
    "image outside of roles": (lambda lm: lm + image(b"image"), "image(…) stands outside", "with user():"),
    "an expression outside of roles": (lambda lm: lm + ("Hi " + gen()), "the text 'Hi ' stands", "with assistant():"),
    "select after the roles": (lambda lm: asked(lm) + select(AB), "stands outside of a role", "with assistant():"),
    "nested roles": (nested, "`with assistant():` stands inside `with user():`", "end the one"),
    "an unknown role": (in_role(role("tool"), "text"), "the role 'tool'", "one of system, user, assistant"),
    "nothing said before": (without_a_question, "select comes before any message", "with user():"),
    "top_k": (sampled(top_k=3), "top_k", "leave it out"),
    "min_p": (sampled(min_p=0.1), "min_p", "leave it out"),
    "repetition_penalty": (sampled(repetition_penalty=1.1), "repetition_penalty", "leave it out"),
    "too many options": (in_turn(select(MANY)), f"more than {MAX_OPTIONS} options", "ask in two steps"),
    "too many joined options": (
        in_turn(select([select(MANY[:30]) + "-" + select(MANY[:30]), "none"])), f"more than {MAX_OPTIONS} options",
        "ask in two steps",
    ),
    "too many repetitions": (in_turn(at_most_n_repeats(select(AB), 100)), f"more than {MAX_OPTIONS}", "two steps"),
}  # fmt: skip


@pytest.mark.parametrize(("program", "names", "advice"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_work_is_named_with_what_to_use(program: Program, names: str, advice: str) -> None:
    with chatting(*["a"] * 9) as (lm, server, session):
        with pytest.raises(ProgramError) as caught:
            program(lm)
        assert names in str(caught.value)
        assert advice in str(caught.value)
        assert (caught.value.exit_code, caught.value.stops_run) == (2, True)
        assert len(server.requests) == len(session.calls) <= (program is REFUSED["recursion"][0])


def test_blanks_outside_of_roles_are_nothing() -> None:
    with chatting("b") as (lm, server, _session):
        in_turn(select(AB))(lm + "\n")
    assert server.bodies[0]["messages"] == [QUESTION]


def test_the_last_of_many_equal_options_counts() -> None:
    with chatting("b") as (lm, server, _session):
        assert in_turn(select(["a"] * (MAX_OPTIONS + 9) + ["b"], name="x"))(lm)["x"] == "b"
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["a", "b"]


def test_as_many_options_as_allowed_are_asked() -> None:
    with chatting(MANY[7]) as (lm, _server, _session):
        assert in_turn(select(MANY[:-1], name="x"))(lm)["x"] == "7"


def test_what_the_endpoint_refuses_of_a_gen_is_its_own_error() -> None:
    told = {"message": "Invalid value: 99.", "type": "invalid_request_error", "param": "temperature", "code": None}
    with chatting(Reply(status=400, error=told)) as (lm, _server, _session), pytest.raises(EndpointRejected):
        in_turn(gen("g", temperature=99))(lm)


# guidance's internals


def needed_imports() -> list[tuple[str, str]]:
    tree = ast.parse(Path(interpreter.__file__).read_text(encoding="utf-8"))
    return [
        (node.module or "", name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("guidance")
        for name in node.names
    ]


@pytest.mark.parametrize(("module", "name"), needed_imports())
def test_guidance_still_has_what_the_interpreter_imports(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), (
        f"guidance {guidance.__version__} broke {module}.{name}, which endpoint/interpreter.py imports"
    )


@pytest.mark.parametrize("name", interpreter._ADVICE)
def test_guidance_still_has_the_nodes_that_are_refused_by_name(name: str) -> None:
    assert hasattr(importlib.import_module("guidance._ast"), name), (
        f"guidance {guidance.__version__} broke {name}: endpoint/interpreter.py gives advice about a node of that name"
    )


FIELDS = {
    "RoleStart": "role",
    "LiteralNode": "value",
    "RegexNode": "regex",
    "SelectNode": "alternatives",
    "JoinNode": "nodes",
    "RepeatNode": "node min max",
    "RuleNode": "name value capture list_append temperature max_tokens stop suffix stop_capture lazy",
    "SubgrammarNode": "body skip_regex",
    "JsonNode": "schema",
}


@pytest.mark.parametrize("node", FIELDS)
def test_guidance_nodes_still_have_the_fields_that_are_read(node: str) -> None:
    found = {part.name for part in dataclasses.fields(getattr(importlib.import_module("guidance._ast"), node))}
    missing = set(FIELDS[node].split()) - found
    assert not missing, f"guidance {guidance.__version__} broke {node}: no {', '.join(missing)}"


def test_guidance_nodes_have_no_attribute_that_would_be_overlooked() -> None:
    known = set(FIELDS["RuleNode"].split())
    found = {part.name for part in dataclasses.fields(interpreter.RuleNode)}
    assert found == known, (
        f"guidance {guidance.__version__} added {found - known} to RuleNode: endpoint/interpreter.py would drop it"
    )
    sampling = set(interpreter.SamplingParams.__annotations__)
    assert sampling == {"top_p", "top_k", "min_p", "repetition_penalty"}, (
        f"guidance {guidance.__version__} changed SamplingParams: {sampling}"
    )


def test_guidance_still_calls_the_methods_that_are_overridden() -> None:
    base, ours = interpreter.Interpreter, interpreter._ChatInterpreter
    for name, method in vars(ours).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert callable(getattr(base, name, None)), (
                f"guidance {guidance.__version__} broke Interpreter.{name}: nothing calls ours any more"
            )
    defaults = {name for name, method in vars(base).items() if inspect.isfunction(method) and not name.startswith("_")}
    through_grammar = {"substring", "lark"}
    assert defaults <= {*vars(ours)} | through_grammar, (
        f"guidance {guidance.__version__} added {defaults - {*vars(ours)} - through_grammar} to Interpreter"
    )


def test_guidance_models_and_states_still_work_as_the_interpreter_takes_them() -> None:
    def broke(what: str) -> str:
        return f"guidance {guidance.__version__} broke {what}, on which endpoint/interpreter.py relies"

    lm = Mock()
    assert isinstance(lm._interpreter, interpreter.Interpreter), broke("Model._interpreter")
    copy = lm.copy()
    assert copy._interpreter is not lm._interpreter, broke("Model.copy, which copies the interpreter")
    kept = {"echo", "sampling_params", "_interpreter", "_active_blocks"}
    of_the_trace = {"_parent", "_parent_id", "_id", "_trace_nodes"}
    assert set(vars(lm)) == kept | of_the_trace, broke("Model's attributes, which a copy shares but for two of them")
    for name, parameters in {
        "_apply_node": ["self", "node"],
        "_send_to_event_queue": ["self"],
        "copy": ["self"],
    }.items():
        method = getattr(interpreter.Model, name, None)
        assert callable(method), broke(f"Model.{name}")
        assert list(inspect.signature(method).parameters) == parameters, broke(f"Model.{name}")
    assert callable(getattr(interpreter.Model, "_update_trace_node", None)), broke("Model._update_trace_node")
    watched = {value for value in interpreter.Model.__getattribute__.__code__.co_consts if isinstance(value, str)}
    assert watched == {"engine"}, broke("Model.__getattribute__, which treats no name but `engine` differently")
    accepted = set(inspect.signature(interpreter.Model.__init__).parameters)
    assert {"interpreter", "sampling_params", "echo"} <= accepted, broke("Model(interpreter, sampling_params, echo)")
    state = lm._interpreter.state
    assert isinstance(state, interpreter.State), broke("Interpreter.state")
    assert (state.captures, state.active_role) == ({}, None), broke("State.captures or State.active_role")
    state.apply_capture("x", "a", -0.5, True)
    assert state.captures == {"x": [{"value": "a", "log_prob": -0.5}]}, broke("State.apply_capture")

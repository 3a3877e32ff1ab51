"""`select` on chat endpoints: each strategy on the wire, which one `auto` takes, and what is never guessed."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from guidance import assistant, gen, select, user, with_temperature
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmlu_pipe.endpoint.connect import ModelOptions, connect
from mmlu_pipe.endpoint.interpreter import model_for_line
from mmlu_pipe.endpoint.select import (
    AUTO_ORDER,
    MAX_TOP_LOGPROBS,
    TEXT_REASKS,
    TEXT_RULE,
    TOP_LOGPROBS,
    Question,
    Selection,
    match_option,
)
from mmlu_pipe.endpoint.session import LineSession
from mmlu_pipe.errors import ConfigError, EndpointRejected, SelectFailed, Truncated
from mmlu_pipe.plugins import hookimpl, manager
from mmlu_pipe.records import Endpoint
from tests.servers.aoai import AoaiServer, Reply

Json = dict[str, Any]
Answers = Callable[[Json, int], str | Reply]
QUESTION = {"role": "user", "content": "Which?"}
NUMBERS = ("0", "1", "2", "3")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")


class Asked:
    """One line's model, the server behind it, and its session."""

    def __init__(self, lm: Any, server: AoaiServer, session: LineSession) -> None:
        self.lm, self.server, self.session = lm, server, session

    def select(self, options: Sequence[Any] = NUMBERS) -> str:
        """Ask one question; the captured option."""
        lm = self.lm
        with user():
            lm += "Which?"
        with assistant():
            lm += select(list(options), name="x")
        self.lm = lm
        found: str = lm["x"]
        return found

    @property
    def strategies(self) -> list[str | None]:
        return [call.strategy for call in self.session.calls]


@contextmanager
def asking(*replies: str | Reply | Answers, strategy: str = "auto", **options: Any) -> Iterator[Asked]:
    """Connect to a server that gives these replies in turn, or what the one function says."""

    def in_turn(body: Json, count: int) -> str | Reply:
        if len(replies) == 1 and callable(replies[0]):
            return replies[0](body, count)
        reply = replies[count] if count < len(replies) else Reply(status=400, error={"message": "one too many"})
        assert not callable(reply)
        return reply

    model, version = options.pop("model", "gpt-4o"), options.pop("api_version", "2024-10-21")
    served, strict = options.pop("served", model), options.pop("strict", True)
    with (
        AoaiServer({"dep": served}, answer=in_turn, strict=strict) as server,
        connect(
            Endpoint(server.endpoint, "dep", model, version), ModelOptions(select_strategy=strategy, **options)
        ) as connection,
    ):
        session = LineSession(1)
        yield Asked(model_for_line(connection.model, session), server, session)


def choice(value: Any) -> str:
    return json.dumps({"choice": value}, separators=(",", ":"), ensure_ascii=False)


def tokens(text: str, **alternatives: float) -> list[Json]:
    """One token whose alternatives have these probabilities, itself among them or not."""
    top = [{"token": name, "logprob": math.log(share)} for name, share in alternatives.items()]
    return [{"token": text, "logprob": math.log(alternatives.get(text, 0.5)), "top_logprobs": top}]


# On the wire


def test_json_schema_on_the_wire() -> None:
    with asking(choice("2"), strategy="json_schema") as line:
        assert line.select() == "2"
    schema = {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": ["0", "1", "2", "3"]}},
        "required": ["choice"],
        "additionalProperties": False,
    }
    assert line.server.bodies == [
        {
            "model": "gpt-4o",
            "messages": [QUESTION],
            "temperature": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "choice", "strict": True, "schema": schema},
            },
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
        }
    ]
    (call,) = line.session.calls
    assert (call.strategy, call.text, call.finish_reason) == ("json_schema", '{"choice":"2"}', "stop")
    # The loopback server gives 0.7 to the character it takes and halves of the rest to the others.
    assert call.distribution == pytest.approx({"2": 0.7, "0": 0.15, "1": 0.075, "3": 0.0375})


def test_logprob_on_the_wire() -> None:
    reply = Reply("T", finish_reason="length", logprobs=tokens("T", T=0.4, **{"1": 0.1, " 3": 0.2, "3": 0.1}))
    with asking(reply, strategy="logprob") as line:
        assert line.select() == "3"
        assert line.lm.log_prob("x") == pytest.approx(math.log(0.3))
    assert line.server.bodies == [
        {
            "model": "gpt-4o",
            "messages": [QUESTION],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": MAX_TOP_LOGPROBS,
        }
    ]
    (call,) = line.session.calls
    assert (call.strategy, call.text, call.finish_reason) == ("logprob", "T", "length")
    assert call.distribution == pytest.approx({"1": 0.1, "3": 0.3})


def test_text_on_the_wire() -> None:
    with asking("Well, 2", ' "2". ', strategy="text") as line:
        assert line.select() == "2"
    first = {"model": "gpt-4o", "messages": [QUESTION], "temperature": 0, "logprobs": True, "top_logprobs": 10}
    menu = 'Reply with exactly one of these and nothing else: "0", "1", "2", "3"'
    again = [{"role": "assistant", "content": "Well, 2"}, {"role": "user", "content": menu}]
    assert line.server.bodies == [first, first | {"messages": [QUESTION, *again]}]
    assert line.strategies == [TEXT_RULE, TEXT_RULE]
    assert str(line.lm).endswith("<|assistant|>\n2")


@pytest.mark.parametrize("strategy", AUTO_ORDER)
def test_text_before_a_select_is_the_last_message(strategy: str) -> None:
    replies = {"json_schema": choice("2"), "logprob": Reply("2", finish_reason="length"), "text": "2"}
    with asking(replies[strategy], strategy=strategy) as line:
        lm = line.lm
        with user():
            lm += "Which?"
        with assistant():
            lm += "It is " + with_temperature(select(NUMBERS, name="x"), 0.5)
    assert lm["x"] == "2"
    assert line.server.bodies[0]["messages"] == [QUESTION, {"role": "assistant", "content": "It is "}]
    assert line.server.bodies[0]["temperature"] == 0.5


@pytest.mark.parametrize("strategy", AUTO_ORDER)
def test_two_selects_are_two_requests(strategy: str) -> None:
    replies: dict[str, list[str | Reply]] = {
        "json_schema": [choice("2"), choice("0")],
        "logprob": [Reply("2", finish_reason="length"), Reply("0", finish_reason="length")],
        "text": ["2", "0"],
    }
    with asking(*replies[strategy], strategy=strategy) as line:
        lm = line.lm
        with user():
            lm += "Which?"
        with assistant():
            lm += select(NUMBERS, name="x") + " and " + select(NUMBERS, name="y")
    assert (lm["x"], lm["y"]) == ("2", "0")
    assert line.server.bodies[1]["messages"] == [QUESTION, {"role": "assistant", "content": "2 and "}]


@pytest.mark.parametrize("strategy", AUTO_ORDER)
def test_streamed_answers_are_chosen_from_all_the_same(strategy: str) -> None:
    replies = {"json_schema": choice("2"), "logprob": Reply("2", finish_reason="length"), "text": "2"}
    with asking(replies[strategy], strategy=strategy, stream=True) as line:
        assert line.select() == "2"
    assert line.server.bodies[0]["stream"] is True
    assert (line.session.calls[0].distribution or {})["2"] == pytest.approx(0.7)


def test_fewer_alternatives_are_asked_for_where_fewer_are_given() -> None:
    with asking("2", strategy="logprob", api_version="2024-06-01") as line:
        assert line.select() == "2"
    assert line.server.bodies[0]["top_logprobs"] == 5


def test_without_logprobs_text_has_no_distribution() -> None:
    with asking("2", strategy="text", model="gpt-4-32k", api_version="2024-02-01") as line:
        assert line.select() == "2"
        assert line.lm.log_prob("x") is None
    assert "logprobs" not in line.server.bodies[0]
    assert line.session.calls[0].distribution is None


# Off the menu


@pytest.mark.parametrize(
    "content",
    [
        choice("4"),
        choice(2),
        choice(["2"]),
        choice(None),
        choice(" 2"),
        '{"other":"2"}',
        "2",
        '"choice"',
        '["2"]',
        '{"choice":"2"',
        "",
        "null",
    ],
)
def test_json_that_is_no_option_fails_the_line(content: str) -> None:
    with asking(content, strategy="json_schema") as line, pytest.raises(SelectFailed) as caught:
        line.select()
    assert (caught.value.options, caught.value.text) == (NUMBERS, content)
    assert "is none of ['0', '1', '2', '3']" in str(caught.value)
    assert line.strategies == ["json_schema"]
    assert line.session.calls[0].text == content


@pytest.mark.parametrize(
    "reply",
    [
        Reply("The", logprobs=tokens("The", The=0.6, A=0.3)),
        Reply("The", logprobs=[]),
        Reply("12", logprobs=tokens("12", **{"12": 0.9})),
        Reply("2", logprobs=[{"token": "2", "logprob": -9999.0, "top_logprobs": [{"token": "1", "logprob": -9999.0}]}]),
    ],
    ids=["others", "none", "longer", "impossible"],
)
def test_logprobs_without_an_option_fail_the_line(reply: Reply) -> None:
    with asking(reply, strategy="logprob") as line, pytest.raises(SelectFailed, match="is none of"):
        line.select()
    assert line.strategies == ["logprob"]


@pytest.mark.parametrize("said", ["1", "2"])
def test_of_two_that_are_as_probable_the_one_that_was_said_is_taken(said: str) -> None:
    with asking(Reply(said, logprobs=tokens(said, **{"1": 0.4, "2": 0.4})), strategy="logprob") as line:
        assert line.select() == said


def test_text_is_asked_again_a_bounded_number_of_times() -> None:
    said = ["Hm.", "", "1 or 2"]
    with asking(*said, strategy="text") as line, pytest.raises(SelectFailed) as caught:
        line.select()
    assert len(said) == TEXT_REASKS + 1 == len(line.session.calls)
    assert (caught.value.options, caught.value.text) == (NUMBERS, "1 or 2")
    menu = {"role": "user", "content": 'Reply with exactly one of these and nothing else: "0", "1", "2", "3"'}
    assert line.server.bodies[2]["messages"] == [QUESTION, {"role": "assistant", "content": "Hm."}, menu, menu]
    assert [call.text for call in line.session.calls] == said


def test_no_request_of_a_line_is_sent_twice_for_a_text() -> None:
    with asking("Hm.", "Hm.", "Hm.", strategy="text") as line, pytest.raises(SelectFailed):
        line.select()
    assert len({call.request_hash for call in line.session.calls}) == 3


def test_a_text_that_is_cut_is_asked_again() -> None:
    with asking(Reply("Let me think", finish_reason="length"), "1", strategy="text") as line:
        assert line.select() == "1"
    assert [call.error for call in line.session.calls] == ["truncated", None]


def test_json_that_is_cut_is_no_answer() -> None:
    reply = Reply('{"choice":', finish_reason="length")
    with asking(reply, strategy="json_schema") as line, pytest.raises(Truncated):
        line.select()


# Options of all kinds

PLAIN = [
    ("1", "10", "100"),
    ("10", "1"),
    ("it's", "its"),
    ("back\\slash", "back/slash"),
    ("Zürich", "Zu\u0308rich", "Zurich"),
    ("日本", "日本語", "中国"),
    ("🚀", "🤖", "👩‍🚀"),
    ("", "a", " "),
    ("tab\there", "tab here"),
    ("a", "A"),
    ("\u0661", "1"),
    ("x" * 500, "x" * 501),
]
QUOTED = [('say "a"', "say a"), ("line\nbreak", "line break"), ('"', "'"), ('"1"', "1")]


@pytest.mark.parametrize("options", PLAIN, ids=lambda options: repr(options)[:30])
def test_any_option_comes_back_as_it_is_from_json(options: tuple[str, ...]) -> None:
    for option in options:
        with asking(choice(option)) as line:
            assert line.select(options) == option
        sent = line.server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["choice"]["enum"]
        assert sent == list(options)
        assert line.strategies == ["json_schema"]
        assert str(line.lm) == f"<|user|>\nWhich?\n<|assistant|>\n{option}"


@pytest.mark.parametrize("options", PLAIN + QUOTED, ids=lambda options: repr(options)[:30])
def test_any_option_comes_back_as_it_is_from_text(options: tuple[str, ...]) -> None:
    for option in options:
        with asking(option, strategy="text") as line:
            assert line.select(options) == option


@pytest.mark.parametrize("options", QUOTED, ids=lambda options: repr(options)[:30])
def test_what_strict_enums_refuse_goes_another_way(options: tuple[str, ...]) -> None:
    with asking(lambda body, _count: Reply(options[0], logprobs=tokens(options[0]))) as line:
        assert line.select(options) == options[0]
    assert line.strategies[0] in {"logprob", TEXT_RULE}
    with asking(strategy="json_schema") as line, pytest.raises(SelectFailed, match="double quote or a line break"):
        line.select(options)
    assert line.server.bodies == []


def test_options_that_begin_alike_need_more_than_one_token() -> None:
    reply = [
        {"token": "1", "logprob": math.log(0.6), "top_logprobs": [{"token": "2", "logprob": math.log(0.4)}]},
        {"token": "0", "logprob": math.log(0.9), "top_logprobs": []},
    ]
    fields: Json = {"model": "gpt-4-turbo", "api_version": "2024-10-21"}
    with asking(Reply("10", logprobs=reply), **fields) as line:
        assert line.select(["1", "10", "2"]) == "10"
        assert line.lm.log_prob("x") == pytest.approx(math.log(0.54))
    assert line.strategies == [TEXT_RULE]
    with asking(strategy="logprob", **fields) as line, pytest.raises(SelectFailed, match="first character; use json_"):
        line.select(["1", "10", "2"])
    assert line.server.bodies == []


# Which strategy


@pytest.mark.parametrize(
    ("model", "version", "reply", "strategy"),
    [
        ("gpt-4o", "2024-10-21", choice("2"), "json_schema"),
        ("gpt-4.1", "v1", choice("2"), "json_schema"),
        ("o4-mini", "v1", choice("2"), "json_schema"),
        ("gpt-4o", "2024-06-01", "2", "logprob"),
        ("gpt-4-turbo", "2024-10-21", "2", "logprob"),
        ("gpt-4-32k", "2024-02-01", "2", TEXT_RULE),
        ("o1-mini", "2024-10-21", "2", TEXT_RULE),
    ],
)
def test_auto_takes_the_first_that_the_deployment_allows(model: str, version: str, reply: str, strategy: str) -> None:
    with asking(reply, model=model, api_version=version) as line:
        assert line.select() == "2"
    assert line.strategies == [strategy]


def answer_any(body: Json, _count: int) -> str:
    return choice("2") if "response_format" in body else "2"


@pytest.mark.parametrize(
    ("declared", "served", "version", "strategies"),
    [
        ("gpt-4o", "gpt-4o-2024-05-13", "2024-10-21", ["json_schema", "logprob"]),
        ("gpt-4o", "gpt-4-32k", "2024-10-21", ["json_schema", TEXT_RULE]),
        ("gpt-4-turbo", "gpt-4-32k", "2024-10-21", ["logprob", TEXT_RULE]),
    ],
)
def test_auto_goes_on_where_the_endpoint_withdraws_a_field(
    declared: str, served: str, version: str, strategies: list[str]
) -> None:
    with asking(answer_any, model=declared, served=served, api_version=version) as line:
        assert line.select() == "2"
        first = [call for call in line.session.calls if call.error]
        assert line.select() == "2"
    tried = [name for place, name in enumerate(line.strategies) if name not in line.strategies[:place]]
    assert tried[0] == strategies[0]
    assert line.strategies[-2:] == [strategies[-1]] * 2  # what was learned is not tried again
    assert all(call.error == "rejected" for call in first)
    assert line.session.calls[-1].error is None


@pytest.mark.parametrize(
    ("strategy", "model", "served", "version"),
    [
        ("json_schema", "gpt-4o", "gpt-4o-2024-05-13", "2024-10-21"),
        ("json_schema", "gpt-4-32k", "gpt-4-32k", "2024-02-01"),
        ("logprob", "gpt-4-turbo", "gpt-4-32k", "2024-10-21"),
        ("logprob", "o4-mini", "o4-mini", "v1"),
    ],
)
def test_a_named_strategy_that_does_not_work_stops_the_run(
    strategy: str, model: str, served: str, version: str
) -> None:
    with (
        asking(answer_any, strategy=strategy, model=model, served=served, api_version=version) as line,
        pytest.raises(
            EndpointRejected, match=f"--select-strategy {strategy} does not work .* use auto or text"
        ) as caught,
    ):
        line.select()
    assert caught.value.stops_run
    assert len(line.server.bodies) == (model != served)


def test_a_gen_has_no_strategy() -> None:
    with asking("free") as line:
        lm = line.lm
        with user():
            lm += "Which?"
        with assistant():
            lm += gen("g")
    assert line.strategies == [None]


# Strategies of others


class First:
    """Takes the first option that the answer holds."""

    def available(self, capabilities: Any, options: Sequence[str]) -> bool:
        return True

    def select(self, question: Question) -> Selection:
        answer = question.ask("first", [{"role": "user", "content": "Think aloud."}], max_completion_tokens=9)
        return Selection(next((option for option in question.options if option in answer.text), "?"), -0.5)


class Plugin:
    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def register_select_strategies(self, register: Any) -> None:
        register(self.name, First())


@contextmanager
def plugged(name: str) -> Iterator[None]:
    manager().register(plugin := Plugin(name))
    try:
        yield
    finally:
        manager().unregister(plugin)


def test_a_plugin_adds_a_strategy() -> None:
    with plugged("first"), asking("It may be 3, or 2", strategy="first") as line:
        assert line.select() == "2"
        assert line.lm.log_prob("x") == -0.5
    assert line.strategies == ["first"]
    sent = line.server.bodies[0]
    assert (sent["messages"][-1]["content"], sent["max_tokens"]) == ("Think aloud.", 9)


def test_a_plugins_strategy_cannot_make_up_an_option() -> None:
    with (
        plugged("first"),
        asking("I cannot say", strategy="first") as line,
        pytest.raises(SelectFailed, match=r"'\?' is none of"),
    ):
        line.select()


def test_auto_does_not_take_a_plugins_strategy() -> None:
    with plugged("first"), asking("2", model="gpt-4-32k", api_version="2024-02-01") as line:
        assert line.select() == "2"
    assert line.strategies == [TEXT_RULE]


@pytest.mark.parametrize("name", AUTO_ORDER)
def test_two_strategies_of_one_name_are_an_error(name: str) -> None:
    with plugged(name), pytest.raises(ConfigError, match=f"two plugins register the select_strategies '{name}'"):
        asking().__enter__()


def test_an_unknown_strategy_is_bad_usage_before_any_request() -> None:
    with pytest.raises(ConfigError, match="use one of auto, json_schema, logprob, text") as caught:
        asking(strategy="guess").__enter__()
    assert (caught.value.exit_code, caught.value.key) == (2, "select_strategy")


# The rule of `text`

LETTERS = ("A", "B", "C")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("2", NUMBERS, "2"),
        (" 2\n", NUMBERS, "2"),
        ("2.", NUMBERS, "2"),
        ("2 .", NUMBERS, "2"),
        ('"2"', NUMBERS, "2"),
        ('"2".', NUMBERS, "2"),
        ('"2."', NUMBERS, "2"),
        ("'2'", NUMBERS, "2"),
        ("`2`", NUMBERS, "2"),
        ("**2**", NUMBERS, "2"),
        ("*2*", NUMBERS, "2"),
        ("**2.**", NUMBERS, "2"),
        ("(2)", NUMBERS, "2"),
        ("[ 2 ]", NUMBERS, "2"),
        ("“2”", NUMBERS, "2"),
        ("«2»", NUMBERS, "2"),
        ("2 : Paris", NUMBERS, None),
        ("2: Paris", NUMBERS, None),
        ("2)", NUMBERS, None),
        ("2..", NUMBERS, None),
        ("2...", NUMBERS, None),
        ("2!", NUMBERS, None),
        ("-2", NUMBERS, None),
        ("02", NUMBERS, None),
        ("2 2", NUMBERS, None),
        ("2 or 3", NUMBERS, None),
        ("The answer is 2", NUMBERS, None),
        ("two", NUMBERS, None),
        ("12", NUMBERS, None),
        ("", NUMBERS, None),
        (".", NUMBERS, None),
        ("\u0662", NUMBERS, None),  # ARABIC-INDIC DIGIT TWO
        ("\uff12", NUMBERS, None),  # FULLWIDTH DIGIT TWO
        ("²", NUMBERS, None),
        ("a", LETTERS, None),
        ("A", LETTERS, "A"),
        ("('A')", LETTERS, None),
        ('"(A)"', LETTERS, None),
        ('"A', LETTERS, None),
        ("Zu\u0308rich", ("Z\u00fcrich", "Bern"), "Z\u00fcrich"),
        ("Z\u00fcrich.", ("Zu\u0308rich", "Bern"), "Zu\u0308rich"),
        ("Z\u00fcrich", ("Zu\u0308rich", "Z\u00fcrich"), "Z\u00fcrich"),
        ("Z\u00fcrich.", ("Zu\u0308rich", "Z\u00fcrich"), None),
        ("Yes.", ("Yes", "Yes."), "Yes."),
        ("Yes", ("Yes", "Yes."), "Yes"),
        (" Yes. ", ("Yes", "Yes."), "Yes."),
        ('"Yes."', ("Yes", "Yes."), None),
        ("(a)", ("a", "(a)"), "(a)"),
        ("a", ("a", " a"), "a"),
        (" a", ("a", " a"), " a"),
        ("a ", ("a", " a"), None),
        ("", ("", "a"), ""),
        (" ", ("", "a"), ""),
        (".", ("", "a"), None),
        ("()", ("", "a"), None),
        ("''", ("", "a"), None),
        ("A.", ("A.", "B."), "A."),
        ("A", ("A.", "B."), None),
        ("U.S.", ("U.S", "U.K"), "U.S"),
    ],
)
def test_the_rule_text_v1(text: str, options: Sequence[str], expected: str | None) -> None:
    assert TEXT_RULE == "text-v1", "a change of the rule changes its name"
    assert match_option(text, options) == expected


WORDS = st.text("aAbé1 .\"'*`()[]“”" + "u\u0308\u0661", max_size=6)
MENU = st.lists(WORDS, min_size=1, max_size=5, unique=True)


@given(options=MENU, data=st.data())
@settings(deadline=None)
def test_an_option_itself_is_always_found(options: list[str], data: st.DataObject) -> None:
    option = data.draw(st.sampled_from(options))
    assert match_option(option, options) == option


@given(text=WORDS, options=MENU)
@example(text='"."', options=["", "."])
@settings(max_examples=300, deadline=None)
def test_what_is_found_is_an_option_and_the_only_one_that_fits(text: str, options: list[str]) -> None:
    found = match_option(text, options)
    alone = [option for option in options if match_option(text, [option]) is not None]
    assert found is None or found in alone
    if len(alone) == 1:
        assert found == alone[0]
    if found is not None and len(alone) > 1:  # one that nothing was taken off for goes first
        composed = unicodedata.normalize("NFC", text).strip()
        assert found == text or unicodedata.normalize("NFC", found).strip() == composed


@given(text=WORDS, options=MENU, seed=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_options_does_not_matter(text: str, options: list[str], seed: Any) -> None:
    shuffled = options[:]
    seed.shuffle(shuffled)
    assert match_option(text, shuffled) == match_option(text, options)


@given(
    option=st.text("abcé12", min_size=1, max_size=5),
    before=st.sampled_from(["", " ", "\n", "\u00a0"]),
    after=st.sampled_from(["", " ", "\n", ".", ". "]),
    pair=st.sampled_from(['""', "''", "``", "()", "[]", "“”", "‘’", "«»", "**", ("**", "**"), ("", "")]),
    form=st.sampled_from(["NFC", "NFD"]),
)
@settings(deadline=None)
def test_what_the_rule_takes_off_is_taken_off(
    option: str, before: str, after: str, pair: tuple[str, str], form: Any
) -> None:
    text = unicodedata.normalize(form, f"{before}{pair[0]}{option}{pair[1]}{after}")
    assert match_option(text, [option, "other"]) == option

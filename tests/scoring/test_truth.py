import asyncio
import json
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from benchmarks.markdown import END, put
from benchmarks.truth.ask import LETTERED, Study
from benchmarks.truth.figures import (
    ASKED_AGAIN,
    CUT,
    GAVE_UP,
    GOES_ON,
    GOES_ON_OTHERWISE,
    LENIENT,
    LENIENT_GAVE_UP,
    NEITHER,
    NOT_READ,
    OPENING,
    OPENING_AND_TIE,
    OTHER_REPLY,
    PROSE,
    READ_OTHER,
    STOPPED,
    TIE,
    UNEXPLAINED,
    Choice,
    by_kind,
    differing,
    margin,
    paired,
    rates,
    shape,
    shift,
    why,
    why_inspect,
)
from benchmarks.truth.lettered import SYSTEM, TEMPLATE
from benchmarks.truth.page import BEGIN, report
from benchmarks.truth.reading import Findings, bodies
from benchmarks.truth.relay import exchanges, relay

import mmlu_pipe
from mmlu_pipe.scoring.paired import Cells
from tests.servers.aoai import AoaiServer, Reply

SLACK = {"json_schema": 0.02, "logprob": 0.02}
NATIVE = Choice(2, True, options=(0.1, 0.09, 0.41, 0.4), replies=("2",))
MENU = ["ANSWER: A", "ANSWER: B", "ANSWER: C", "ANSWER: D"]


def test_lines_are_paired_and_a_line_without_a_choice_agrees_with_none():
    first = {1: Choice(0, True), 2: Choice(1, False), 3: Choice(None, False), 4: Choice(2, True)}
    other = {1: Choice(0, True), 2: Choice(2, True), 3: Choice(None, False), 4: Choice(3, False)}
    pair = paired(first, other)
    assert (pair.agree, pair.cells, pair.p_value) == (1, Cells(1, 1, 1, 1), 1.0)
    assert differing(first, other) == [2, 3, 4]


def test_answers_to_other_lines_are_not_paired():
    with pytest.raises(ValueError, match="not the same lines"):
        paired({1: Choice(0, True)}, {2: Choice(0, True)})


def test_rates_count_first_answers_off_the_menu_and_the_probability_outside():
    choices = {
        1: Choice(0, True, options=(0.5, 0.25, 0.0, 0.0)),
        2: Choice(None, False, on_menu=False, options=(0.25, 0.0, 0.0, 0.0)),
    }
    found = rates(choices)
    assert (found.lines, found.right, found.off_menu, found.without, found.outside) == (2, 1, 1, 1, 0.5)
    assert rates({1: Choice(0, True)}).outside is None


def test_leads_and_shifts_are_told_in_shares_of_the_options():
    assert margin((0.1, 0.3)) == pytest.approx(0.5)
    found = shift({1: (0.1, 0.3), 2: (0.6, 0.4)}, {1: (0.15, 0.25), 2: (0.45, 0.55)})
    assert found.most == pytest.approx(0.15)
    assert found.lead == pytest.approx(0.25)  # line 1 alone: on line 2 the best option is another


@pytest.mark.parametrize(
    ("strategy", "other", "in_json", "reason"),
    [
        ("logprob", Choice(3, False), (), TIE),
        ("logprob", Choice(0, False), (), UNEXPLAINED),
        ("text", Choice(3, False), (), TIE),
        ("text", Choice(0, False), (), UNEXPLAINED),
        ("text", Choice(0, False, on_menu=False, replies=("To", "0")), (), ASKED_AGAIN),
        ("text", Choice(None, False, on_menu=False, replies=("To", "a", "b")), (), GAVE_UP),
        ("json_schema", Choice(0, False), (0.5, 0.2, 0.2, 0.1), OPENING),
        ("json_schema", Choice(0, False), (0.3, 0.2, 0.301, 0.1), OPENING_AND_TIE),
        ("json_schema", Choice(0, False), (0.1, 0.2, 0.5, 0.1), UNEXPLAINED),
    ],
)
def test_why_a_choice_is_not_guidances_own_is_computed(strategy, other, in_json, reason):
    assert why(strategy, NATIVE, other, in_json, SLACK) == reason


@pytest.mark.parametrize(
    ("replies", "ours", "theirs", "read", "reason"),
    [
        (["ANSWER: A"], 0, "ANSWER: B", 1, OTHER_REPLY),
        (["ANSWER: A"], 0, "ANSWER: A", None, NOT_READ),
        (["**ANSWER: A**"], 0, "**ANSWER: A**", 1, READ_OTHER),
        (["ANSWER: A) x", "ANSWER: B"], 1, "ANSWER: A) x", 0, LENIENT),
        (["ANSWER: A) x", "so", "so"], None, "ANSWER: A) x", 0, LENIENT_GAVE_UP),
        (["A", "ANSWER: A"], 0, "A", None, STOPPED),
        (["A", "A", "A"], None, "A", None, NEITHER),
        (["ANSWER: A"], 1, "ANSWER: A", 0, UNEXPLAINED),
    ],
)
def test_why_inspect_ai_has_another_choice_is_computed(replies, ours, theirs, read, reason):
    found = why_inspect(Choice(ours, False, replies=tuple(replies)), Choice(read, False, replies=(theirs,)), MENU)
    assert found == reason


def test_kinds_are_told_with_their_lines_the_most_frequent_first():
    assert by_kind([1, 2, 3], lambda line: "odd" if line % 2 else "even") == {"odd": [1, 3], "even": [2]}


def test_the_lines_are_drawn_by_the_seed(tmp_path):
    dataset = tmp_path / "d.jsonl"
    dataset.write_text("{}\n" * 50, encoding="utf-8")
    lines = Study(tmp_path, tmp_path, dataset, 20, 1).lines
    assert lines == sorted(set(lines))
    assert (len(lines), set(lines) <= set(range(1, 51))) == (20, True)
    assert Study(tmp_path, tmp_path, dataset, 20, 2).lines != lines


def test_the_lettered_program_sends_what_inspect_ai_sends(tmp_path, monkeypatch, write_config):
    from inspect_ai.model import ChatMessageUser, ModelName, ModelOutput
    from inspect_ai.solver import TaskState, multiple_choice, system_message

    question, choices = " What is {braces}?\n", ["é", "{0}", " two", "3\n"]
    dataset = tmp_path / "lines.jsonl"
    line = {"question": question, "choices": choices, "correct_answer": 1}
    dataset.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with AoaiServer({"dep": "gpt-4o"}, answer=lambda _body, _count: Reply("ANSWER: B")) as server:
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", server.key)
        config = write_config(server.endpoint)
        run = mmlu_pipe.run(dataset, LETTERED, other_config=config, select_strategy="text", output_dir=tmp_path / "run")
        (body,) = server.bodies

    async def theirs() -> TaskState:
        async def generate(state, **_settings):
            state.output = ModelOutput.from_content("none", "ANSWER: B")
            return state

        asked = [ChatMessageUser(content=question)]
        state = TaskState(ModelName("none/none"), 1, 1, question, asked, choices=choices)
        for solver in (system_message(SYSTEM), multiple_choice(template=TEMPLATE)):
            state = await solver(state, generate)
        return state

    state = asyncio.run(theirs())
    assert body["messages"] == [{"role": each.role, "content": each.text} for each in state.messages]
    assert [choice.correct for choice in state.choices] == [False, True, False, False]
    assert run.score.n_correct == 1


def test_the_relay_keeps_every_request_and_asks_no_request_twice(tmp_path):
    asked = []

    class Upstream(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.headers["api-key"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"n": %d}' % len(asked))

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address, file = f"http://127.0.0.1:{server.server_port}", tmp_path / "requests.jsonl"

        def post(relayed: str, body: bytes) -> bytes:
            request = urllib.request.Request(f"{relayed}/chat?v=1", body, {"api-key": "k"})
            with urllib.request.urlopen(request) as reply:
                return reply.read()

        with relay(0, address, file) as relayed:
            assert [post(relayed, b'{"a": 1}'), post(relayed, b'{"a": 2}')] == [b'{"n": 1}', b'{"n": 2}']
        with relay(0, address, file) as relayed:
            assert post(relayed, b'{"a": 1}') == b'{"n": 1}'
        server.shutdown()
    assert asked == [("/chat?v=1", "k", b'{"a": 1}'), ("/chat?v=1", "k", b'{"a": 2}')]
    assert exchanges(file) == [{"body": '{"a": 1}', "reply": '{"n": 1}'}, {"body": '{"a": 2}', "reply": '{"n": 2}'}]


def test_what_a_run_sent_beside_its_messages_is_told_without_them(tmp_path):
    body = json.dumps({"messages": [{"role": "user", "content": "a question"}], "temperature": 0})
    (tmp_path / "run.requests.jsonl").write_text(json.dumps({"body": body, "reply": "{}"}) + "\n", encoding="utf-8")
    assert list(bodies(tmp_path, "run").values()) == ['{"temperature": 0}']


@pytest.mark.parametrize(
    ("reply", "cut", "chosen", "kind"),
    [
        ("2: so", False, 2, GOES_ON),
        (" 2) so", True, 1, GOES_ON_OTHERWISE),
        ("2: so", False, None, GOES_ON_OTHERWISE),
        ("20", False, 2, PROSE),
        ("To find 2", False, 2, PROSE),
        ("To find", True, 2, CUT),
    ],
)
def test_the_kind_of_a_first_reply_that_is_no_option_is_computed(reply, cut, chosen, kind):
    assert shape(Choice(chosen, False, False, (reply, "2"), cut=cut), ["0", "1", "2", "3"]) == kind


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    native = {1: NATIVE, 2: Choice(0, True, False, ("To",), (0.4, 0.1, 0.0, 0.0))}
    other = {1: Choice(3, False, options=(0.1, 0.1, 0.4, 0.41)), 2: Choice(0, True, options=(0.4, 0.12, 0.0, 0.0))}
    lettered = {1: Choice(0, True, replies=("ANSWER: A",)), 2: Choice(1, True, False, ("B", "ANSWER: B"))}
    return Findings(
        study=Study(tmp_path, tmp_path, tmp_path / "mmlu.jsonl", 2, 1),
        facts={"dataset": "0" * 64, "weights": "m", "date": "2026-11-23", "machine": "a machine", "versions": "x 1"},
        native=native,
        in_json={
            1: Choice(3, False, options=(0.1, 0.1, 0.4, 0.41)),
            2: Choice(0, True, options=(0.5, 0.2, 0.1, 0.1)),
        },
        runs={"json_schema": other, "logprob": other, "text": other, "lettered_text": lettered},
        inspect={1: Choice(0, True, replies=("ANSWER: A",)), 2: Choice(None, False, False, ("B",))},
        same_tokens=2,
        same_counts={"text": 2},
        same_messages=2,
        fields={"inspect": "{}", "lettered_text": "{}"},
    )


def test_the_tables_tell_rates_pairs_and_reasons(findings):
    told = report(findings)
    assert "| guidance's own `select` | 2 | 100.0% (34.2 to 100.0) | 1 (50.0%) | 0 | 25.0% |" in told
    assert "| `logprob` | 1 of 2 (50.0%) | 1 | 0 | -50.0 (-100.0 to +0.0) | 1 |" in told
    assert f"| {TIE} | 1 | 1 |" in told
    assert f"| {OPENING} | 1 | 1 |" in told
    assert f"| {STOPPED} | 1 | 2 |" in told
    assert "question" not in told


def test_the_tables_go_between_the_marks_of_a_page_and_nowhere_else(tmp_path):
    page = tmp_path / "truth.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    put(page, BEGIN, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("before\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="a mark is missing"):
        put(page, BEGIN, "new")

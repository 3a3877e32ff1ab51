import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import vcr.cassette
from vcr.record_mode import RecordMode
from vcr.request import Request

import mmlu_pipe
from mmlu_pipe.components.jsonl_guidance_aoai import jsonl_guidance_aoai
from mmlu_pipe.errors import CassetteMiss, ErrorBudgetExceeded, RecordingError, SecretInCassette
from mmlu_pipe.recording.cassette import Cassette
from mmlu_pipe.recording.transport import TapeDeck
from tests.servers.aoai import AoaiServer, Reply, default_answer, filtered_prompt, rate_limited

SELECT = """
import guidance
from guidance import assistant, select, user


def guidance_generation(lm, input):
    with user():
        lm += input["question"]
    with assistant():
        lm += select(["0", "1", "2", "3"], name="choice")
    return {"choice": lm["choice"]}
"""
TWICE = """
from guidance import assistant, gen, user


def guidance_generation(lm, input):
    found = []
    for _ in range(2):
        with user():
            asked = lm + input["question"]
        with assistant():
            asked += gen("text")
        found.append(asked["text"])
    return {"texts": found}
"""
AGAIN = rate_limited(1)
BROKEN = Reply(status=500, headers={"retry-after-ms": "1"})


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Lab(tmp_path, monkeypatch)


class Lab:
    """Component 1 over files in a folder, against a server or a cassette."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch, self.runs = folder, monkeypatch, 0
        self.cassette = folder / "cassette"

    def dataset(self, questions, name="data.jsonl"):
        path = self.folder / name
        lines = [{"subject": f"subject {n % 3}", "question": text} for n, text in enumerate(questions)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    def ports(self, questions, *, server=None, program=SELECT, name="run", **ports):
        path = self.folder / "program.py"
        path.write_text(program, encoding="utf-8")
        found = {
            "guidance_program": path,
            "input_dataset": questions if isinstance(questions, Path) else self.dataset(questions),
            **{f"{kind}_dataset": self.folder / name / f"{kind}.jsonl" for kind in ("output", "error", "calls")},
            "run_facts": self.folder / name / "facts.json",
            "cassette": self.cassette,
        }
        if server is not None:
            self.monkeypatch.setenv("AZURE_OPENAI_API_KEY", server.key)
            found |= endpoint(server.endpoint)
        return found | ports

    def run(self, questions, **more):
        self.runs += 1
        ports = self.ports(questions, name=f"run {self.runs}", **more)
        error = None
        try:
            jsonl_guidance_aoai(**ports)
        except Exception as failure:  # noqa: BLE001 - it is for the test to judge
            error = failure
        read = {kind: (ports[f"{kind}_dataset"]) for kind in ("output", "error", "calls")}
        content = {kind: path.read_bytes() if path.exists() else None for kind, path in read.items()}
        lines = {kind: [json.loads(line) for line in (text or b"").splitlines()] for kind, text in content.items()}
        facts = json.loads(ports["run_facts"].read_bytes()) if ports["run_facts"].exists() else {}
        return SimpleNamespace(raised=error, bytes=content, facts=facts, **lines)

    def record(self, questions, server, **more):
        return self.run(questions, server=server, **{"record_mode": "once"} | more)

    def items(self):
        found = []
        for path in sorted(self.cassette.glob("*.yaml")):
            cassette = vcr.cassette.Cassette.load(path=str(path), record_mode=RecordMode.NONE)
            found += zip(cassette.requests, cassette.responses, strict=True)
        return found


def endpoint(address, **changes):
    ports = {"endpoint": address, "deployment": "dep", "model": "gpt-4o", "api_version": "2024-10-21"} | changes
    return {f"azure_openai_{name}": value for name, value in ports.items()}


def same(one, other, *kinds):
    assert one.raised is None
    assert other.raised is None
    for kind in kinds or ("output", "error"):
        assert one.bytes[kind] == other.bytes[kind], kind


def asked(body):
    return body["messages"][-1]["content"]


def in_turn(*replies):
    """Each question gets these replies one after the other, the last one for good."""
    seen, lock = {}, threading.Lock()

    def answer(body, count):
        with lock:
            turn = seen[asked(body)] = seen.get(asked(body), -1) + 1
        reply = replies[min(turn, len(replies) - 1)]
        return default_answer(body, count) if reply is None else reply

    return answer


# No network in a replay


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to reach a network fails, and is counted."""
    attempts = []

    def refuse(*arguments, **_keywords):
        attempts.append(arguments)
        raise AssertionError("a replay opened a socket")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return attempts


def test_the_guard_against_sockets_is_on(lab, no_network):
    with pytest.raises(AssertionError, match="opened a socket"):
        socket.create_connection(("127.0.0.1", 9))
    with socket.socket() as plain, pytest.raises(AssertionError, match="opened a socket"):
        plain.connect(("127.0.0.1", 9))
    tried = len(no_network)
    lab.monkeypatch.setattr("mmlu_pipe.endpoint.exchange.retry_delay", lambda *_: 0.001)
    lab.monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key")
    live = lab.run(["a"], **endpoint("http://127.0.0.1:9"), cassette=None)
    assert len(no_network) > tried
    assert "opened a socket" in str(live.raised or live.error)


def test_a_replay_opens_no_socket_not_even_with_an_endpoint(lab, request):
    questions = [f"question {n}" for n in range(12)]
    with AoaiServer() as server:
        recorded = lab.record(questions, server)
    attempts = request.getfixturevalue("no_network")
    lab.monkeypatch.delenv("AZURE_OPENAI_API_KEY")  # nor does it ask for a credential
    for ports in ({}, endpoint("https://contoso.openai.azure.com")):
        same(recorded, lab.run(questions, **ports))
    assert not attempts


# Record, then replay


def test_a_replay_gives_the_bytes_of_the_recording_whatever_the_workers_and_the_order(lab):
    questions = [f"question {n % 25}" for n in range(60)]  # equal ones in different shards
    with AoaiServer(answer=lambda _body, count: f"answer {count}") as server:
        recorded = lab.record(questions, server, program=TWICE, guidance_workers=16)
        asked_live = len(server.requests)
    assert recorded.raised is None
    assert len(recorded.output) == 60
    assert asked_live == len(lab.items()) == 50  # twice in a line is two recordings, and lines share them
    for line in recorded.output:
        assert line["texts"][0] != line["texts"][1]
    for workers in (1, 16):
        replayed = lab.run(questions, program=TWICE, guidance_workers=workers)
        same(recorded, replayed)
        assert [untimed(call) for call in replayed.calls] == [untimed(call) for call in recorded.calls]
        assert (replayed.facts["recordings"], replayed.facts["endpoint_kind"]) == (
            {"used": 50, "in_cassette": 50, "unused": 0, "first_unused": []},
            "recorded",
        )
    shuffled = random.Random(7).sample(questions, len(questions))
    by_question = {line["question"]: line["texts"] for line in recorded.output}
    again = lab.run(shuffled, program=TWICE, guidance_workers=16)
    assert [line["texts"] for line in again.output] == [by_question[text] for text in shuffled]


def untimed(call):
    return {name: value for name, value in call.items() if name not in ("latency_s", "attempts")}


def test_the_recording_does_not_depend_on_the_workers(lab):
    questions = [f"question {n}" for n in range(40)]
    folders = []
    for workers in (1, 16):
        lab.cassette = lab.folder / f"by {workers}"
        with AoaiServer() as server:
            lab.record(questions, server, guidance_workers=workers)
        folders.append({path.name: path.read_bytes() for path in lab.cassette.glob("*.yaml")})
    assert folders[0] == folders[1]
    assert list(folders[0]) != []


def test_equal_questions_of_many_lines_are_asked_once(lab):
    with AoaiServer(answer=lambda _body, count: json.dumps({"choice": str(count % 4)})) as server:
        recorded = lab.record(["the same"] * 40, server, guidance_workers=16)
        assert len(server.requests) == 1
    assert [line["choice"] for line in recorded.output] == ["0"] * 40
    same(recorded, lab.run(["the same"] * 40, guidance_workers=16))


@pytest.mark.parametrize("recorded_with", [False, True])
@pytest.mark.parametrize("replayed_with", [False, True])
def test_streaming_makes_no_difference_to_a_recording(lab, recorded_with, replayed_with):
    questions = [f"question {n}" for n in range(6)]
    with AoaiServer(answer=lambda body, count: Reply(default_answer(body, count), async_filter=True)) as server:
        recorded = lab.record(questions, server, stream=recorded_with)
        assert all(bool(body.get("stream")) is recorded_with for body in server.bodies)
    kinds = {response["headers"]["Content-Type"][0].split(";")[0] for _, response in lab.items()}
    assert kinds == {"text/event-stream" if recorded_with else "application/json"}
    replayed = lab.run(questions, stream=replayed_with)
    same(recorded, replayed)
    assert [untimed(call) for call in replayed.calls] == [untimed(call) for call in recorded.calls]


NASTY = [
    'line\u2028sep "id":"chatcmpl-mine" \U0001f600 \x00\x07\x1b\x85 \ufeff',
    "a\r\nb\rc\n\n \n",
    " blanks around \t",
    "\ud83d lone",
    "",
]


@pytest.mark.parametrize("stream", [False, True])
def test_a_models_text_survives_recording_byte_for_byte(lab, stream):
    answers = {f"question {n}": text for n, text in enumerate(NASTY)}
    with AoaiServer(answer=lambda body, _count: Reply(answers[asked(body)])) as server:
        recorded = lab.record(list(answers), server, program=TWICE, stream=stream)
    whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in NASTY]  # endpoint/wire.py
    assert [line["texts"] for line in recorded.output] == [[text, text] for text in whole]
    same(recorded, lab.run(list(answers), program=TWICE))


# Only the exchange that ends a retry


@pytest.mark.parametrize(
    "failures",
    [[AGAIN], [BROKEN], [AGAIN, BROKEN, AGAIN], [Reply("", truncated=True)], [Reply(reset="before")]],
    ids=["429", "500", "429 500 429", "cut", "reset"],
)
def test_only_the_exchange_that_ended_the_retries_is_kept(lab, failures, monkeypatch):
    monkeypatch.setattr("mmlu_pipe.endpoint.exchange.retry_delay", lambda *_: 0.001)
    questions = ["one", "two", "three"]
    with AoaiServer(answer=in_turn(*failures, None)) as server:
        recorded = lab.record(questions, server)
        assert len(server.requests) == 3 * (len(failures) + 1)
    assert [response["status"]["code"] for _, response in lab.items()] == [200] * 3
    assert [call["attempts"] for call in recorded.calls] == [len(failures) + 1] * 3
    replayed = lab.run(questions)
    same(recorded, replayed)
    assert [call["attempts"] for call in replayed.calls] == [1] * 3


def test_a_refused_field_is_not_kept_and_a_replay_asks_in_the_corrected_words(lab):
    questions = [f"question {n}" for n in range(5)]
    with AoaiServer({"dep": "o4-mini"}) as server:  # declared as gpt-4o, which takes more fields
        recorded = lab.record(questions, server, guidance_workers=3)
        refused = len(server.requests) - server.answered
    assert refused > 0
    assert [response["status"]["code"] for _, response in lab.items()] == [200] * 5
    assert len(recorded.output) == 5
    same(recorded, lab.run(questions))
    same(recorded, lab.run(questions, **endpoint("https://contoso.openai.azure.com")))


def test_what_never_ended_well_is_not_recorded(lab):
    with AoaiServer(answer=in_turn(BROKEN)) as server:
        recorded = lab.record(["one"], server)
        assert len(server.requests) == 6
    assert [line["_error"]["kind"] for line in recorded.error] == ["unavailable"]
    assert not lab.cassette.exists()
    assert lab.items() == []


def test_a_blocked_prompt_is_kept_and_replays_as_what_it_was(lab):
    def answer(body, count):
        return filtered_prompt("hate", "high") if "bad" in asked(body) else default_answer(body, count)

    questions = ["good", "bad", "fine"]
    with AoaiServer(answer=answer) as server:
        recorded = lab.record(questions, server)
        assert len(server.requests) == 3
    assert sorted(response["status"]["code"] for _, response in lab.items()) == [200, 200, 400]
    assert recorded.error[0]["_error"] | {"message": ""} == {
        "line_number": 2,
        "kind": "content_filter",
        "error_type": "ContentFiltered",
        "message": "",
        "categories": {"hate": "high"},
    }
    same(recorded, lab.run(questions))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("cut", finish_reason="length"), "truncated"),
        (Reply(refusal="I will not."), "refused"),
        (Reply("bad", finish_reason="content_filter", filtered={"violence": "high"}), "content_filter"),
        (Reply("off the menu"), "select_failed"),
    ],
)
def test_answers_that_are_none_replay_as_the_same_errors(lab, reply, kind):
    with AoaiServer(answer=lambda _body, _count: reply) as server:
        recorded = lab.record(["one", "two"], server)
    assert [line["_error"]["kind"] for line in recorded.error] == [kind] * 2
    same(recorded, lab.run(["one", "two"]))


# Record modes

KNOWN, UNKNOWN = "known", "unknown"


def vcrpys_decision(mode, path, question):
    """What vcrpy would do: play, ask or refuse."""
    cassette = vcr.cassette.Cassette.load(path=str(path), record_mode=RecordMode(mode), match_on=(by_question,))
    request = Request("POST", "https://aoai.invalid/", json.dumps({"messages": [{"content": question}]}), {})
    if cassette.can_play_response_for(request):
        return "play"
    return "refuse" if cassette.write_protected and request not in cassette else "ask"


def by_question(one, other):
    assert asked(json.loads(one.body)) == asked(json.loads(other.body))


@pytest.mark.parametrize("mode", ["none", "once", "new_episodes", "all"])
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("question", [KNOWN, UNKNOWN])
def test_record_modes_mean_what_vcrpy_means(lab, mode, existing, question):
    with AoaiServer() as server:
        if existing:
            lab.record([KNOWN], server)
        expected = vcrpys_decision(mode, lab.cassette / "subject_0.yaml", question)
        before = len(server.requests)
        found = lab.run([question], server=server, record_mode=mode)
        asked_live = len(server.requests) - before
    if expected == "refuse":
        assert isinstance(found.raised, CassetteMiss if existing else RecordingError)  # no recordings at all: a slip
    else:
        assert found.raised is None
        assert len(found.output) == 1
    assert asked_live == (expected == "ask")
    kept = {asked(json.loads(request.body)) for request, _ in lab.items()}
    assert kept == ({KNOWN} if existing else set()) | ({question} if expected == "ask" else set())


def test_all_asks_again_and_replaces(lab):
    with AoaiServer(answer=lambda _body, count: json.dumps({"choice": str(count % 4)})) as server:
        first = lab.record(["a", "b"], server, guidance_workers=1)
        second = lab.record(["a"], server, record_mode="all")
    assert [line["choice"] for line in first.output + second.output] == ["0", "1", "2"]
    assert [line["choice"] for line in lab.run(["a", "b"]).output] == ["2", "1"]
    assert len(lab.items()) == 2


def test_new_episodes_asks_only_for_what_is_new_and_keeps_the_note(lab):
    with AoaiServer() as server:
        lab.record(["a"], server, record_note="whose answers")
        lab.record(["a", "b"], server, record_mode="new_episodes")
        assert [asked(body) for body in server.bodies] == ["a", "b"]
        about = lab.cassette / "provenance.json"
        assert json.loads(about.read_bytes())["note"] == "whose answers"
        assert json.loads(about.read_bytes())["recordings"] == 2
        written = about.stat().st_mtime_ns
        lab.record(["a", "b"], server, record_mode="new_episodes")
        assert about.stat().st_mtime_ns == written  # nothing new, nothing to say
        about.unlink()  # as a killed recording leaves it
        lab.record(["a", "b"], server, record_mode="new_episodes")
        assert json.loads(about.read_bytes())["recordings"] == 2


# Misses


def test_a_miss_stops_the_run_and_names_what_differs(lab):
    with AoaiServer() as server:
        lab.record(["What is a cell?", "What is a star?"], server)
    found = lab.run(["What is a cell?", "What is a stir?", "What is a cell?"], guidance_workers=1)
    assert isinstance(found.raised, CassetteMiss)
    assert found.raised.exit_code == 1
    assert 'asked "What is a stir?"' in str(found.raised)
    assert found.error[0]["_error"]["kind"] == "recording"
    assert len(found.output) + len(found.error) == 3
    assert str(lab.folder) not in found.bytes["error"].decode()
    changed = SELECT.replace('"3"]', '"3", "4"]')
    assert "response_format" in lab.run(["What is a cell?"], program=changed).raised.nearest


def test_a_cassette_without_provenance_needs_the_endpoint_named(lab):
    with AoaiServer() as server:
        recorded = lab.record(["a"], server)
    (lab.cassette / "provenance.json").unlink()
    found = lab.run(["a"])
    assert isinstance(found.raised, RecordingError)
    assert "--other-config" in str(found.raised)
    assert found.bytes["output"] is None
    same(recorded, lab.run(["a"], **endpoint("https://contoso.openai.azure.com")))


# Another deployment, host or style


@pytest.mark.parametrize(
    "changes",
    [
        {"deployment": "a-colleagues"},
        {"api_version": "2025-01-01-preview"},
        {"api_version": "v1"},
        {"api_version": "v1", "deployment": "a-colleagues"},
    ],
    ids=str,
)
@pytest.mark.parametrize("recorded_on", ["2024-10-21", "v1"])
def test_another_deployment_host_or_style_replays_the_same_recording(lab, changes, recorded_on):
    questions = [f"question {n}" for n in range(4)]
    with AoaiServer({"ada-private": "gpt-4o"}) as server:
        live = endpoint(server.endpoint, deployment="ada-private", api_version=recorded_on)
        recorded = lab.record(questions, server, **live)
    assert recorded.raised is None
    same(recorded, lab.run(questions, **endpoint("https://contoso.services.ai.azure.com", **changes)))


def test_the_v1_style_is_recorded_under_the_declared_model(lab):
    with AoaiServer({"ada-private": "gpt-4o"}) as server:
        lab.record(["a"], server, **endpoint(server.endpoint, deployment="ada-private", api_version="v1"))
        assert server.bodies[0]["model"] == "ada-private"
    ((request, _),) = lab.items()
    assert json.loads(request.body)["model"] == "gpt-4o"
    assert request.uri == "https://aoai.invalid/openai/v1/chat/completions"


# Secrets


@pytest.mark.parametrize("style", ["2024-10-21", "v1"])
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_that_names_a_person_a_key_or_a_place_is_kept(lab, style, stream):
    def answer(body, count):
        return Reply(default_answer(body, count), served_model="ada-private", headers={"set-cookie": "c00kie=1"})

    with AoaiServer({"ada-private": "gpt-4o"}, key="k3y-0f-ada", answer=answer) as server:
        ports = endpoint(server.endpoint, deployment="ada-private", api_version=style)
        recorded = lab.record(["a", "b"], server, stream=stream, **ports)
        port = server.endpoint.rsplit(":", 1)[1]
    assert recorded.raised is None
    kept = b"".join(path.read_bytes() for path in lab.cassette.iterdir()).decode()
    for planted in ("k3y-0f-ada", "ada-private", "127.0.0.1", f":{port}", "c00kie", "apim", "Loopback", "x-ratelimit"):
        assert planted not in kept, planted
    assert set(re.findall(r"chatcmpl-\w+", kept)) == {"chatcmpl-0"}
    same(recorded, lab.run(["a", "b"]))


@pytest.mark.parametrize("planted", ["my key is k3y-0f-ada", f"token eyJ{'a' * 20}.eyJ{'b' * 20}.sig"])
def test_a_secret_in_the_prompt_is_refused_before_it_is_sent(lab, planted):
    with AoaiServer(key="k3y-0f-ada") as server:
        found = lab.record([planted, "never asked"], server, guidance_workers=1)
        assert planted not in [asked(body) for body in server.bodies]
    assert isinstance(found.raised, SecretInCassette)
    assert found.raised.where == "line 1, request"
    assert found.raised.exit_code == 2
    kept = [path.read_text(encoding="utf-8") for path in lab.cassette.glob("*")] if lab.cassette.exists() else []
    assert not any(planted in text for text in kept)


def test_a_secret_in_the_answer_is_refused_and_not_written(lab):
    with AoaiServer(key="k3y-0f-ada", answer=lambda _body, _count: "you sent k3y-0f-ada") as server:
        found = lab.record(["a"], server, program=TWICE)
        assert len(server.requests) == 1
    assert isinstance(found.raised, SecretInCassette)
    assert found.raised.where == "line 1, response"
    assert not lab.cassette.exists()


# Killed, and disks that fail


def test_a_killed_recording_keeps_every_finished_exchange_and_is_continued(lab):
    questions = [f"question {n}" for n in range(6)]
    reached, release = threading.Event(), threading.Event()

    def answer(body, count):
        if count == 3:
            reached.set()
            release.wait(60)
        return default_answer(body, count)

    with AoaiServer(answer=answer) as server:
        ports = lab.ports(questions, server=server, record_mode="once", guidance_workers=1)
        process = subprocess.Popen(
            [sys.executable, "-m", "mmlu_pipe.components.jsonl_guidance_aoai", *jsonl_guidance_aoai.arguments(ports)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        )
        try:
            assert reached.wait(60)
        finally:
            process.kill()
            process.wait()
            release.set()
        kept = sorted(asked(json.loads(request.body)) for request, _ in lab.items())
        assert kept == questions[:3]
        server.requests.clear()
        recorded = lab.record(questions, server, record_mode="new_episodes")
        assert sorted(asked(body) for body in server.bodies) == questions[3:]
    same(recorded, lab.run(questions))


def test_where_recordings_cannot_be_written_the_run_stops_at_once(lab):
    lab.cassette.write_text("a file", encoding="utf-8")
    with AoaiServer() as server:
        found = lab.record([f"question {n}" for n in range(9)], server, guidance_workers=1)
        assert len(server.requests) < 9
    assert isinstance(found.raised, RecordingError)
    assert "cassette/subject_0.yaml: the recording cannot be written" in str(found.raised)
    assert len(found.output) + len(found.error) == 9


def test_a_run_over_its_budget_keeps_what_it_recorded(lab):
    def answer(body, count):
        return default_answer(body, count) if "good" in asked(body) else Reply("", finish_reason="length")

    with AoaiServer(answer=answer) as server:
        found = lab.record(["good 1", "bad", "good 2"], server, guidance_workers=1, max_errors="0")
    assert isinstance(found.raised, ErrorBudgetExceeded)
    assert (lab.cassette / "provenance.json").exists()
    assert {"good 1", "bad"} <= {asked(json.loads(request.body)) for request, _ in lab.items()}


def test_a_bad_cassette_is_refused_before_anything_is_written(lab):
    with AoaiServer() as server:
        lab.record(["a"], server)
        shard = lab.cassette / "subject_0.yaml"
        shard.write_text("version: 1\ninteractions: [", encoding="utf-8")
        for mode in ("none", "once", "new_episodes", "all"):
            found = lab.run(["a", "b"], server=server, record_mode=mode)
            assert isinstance(found.raised, RecordingError)
            assert found.bytes["output"] is None
        assert len(server.requests) == 1
    assert shard.read_text(encoding="utf-8") == "version: 1\ninteractions: ["


# The deck alone


class Live(httpx2.BaseTransport):
    """Answers with how many requests came, after it was let through."""

    def __init__(self):
        self.count, self.closed = 0, False

    def handle_request(self, request):
        self.count += 1
        return httpx2.Response(200, json={"choices": [], "count": self.count}, request=request)

    def close(self):
        self.closed = True


def post(deck, content="a"):
    uri = "https://h/openai/deployments/d/chat/completions?api-version=2024-10-21"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}
    return deck.handle_request(httpx2.Request("POST", uri, json=body))


def test_a_request_outside_of_a_call_is_an_error(tmp_path):
    with pytest.raises(RecordingError, match="outside of a recorded call"):
        post(TapeDeck(Cassette(tmp_path), "gpt-4o", Live()))


def test_nothing_is_kept_unless_the_call_says_so(tmp_path):
    live = Live()
    deck = TapeDeck(Cassette(tmp_path / "new"), "gpt-4o", live)
    with deck.call("hash", 0, "s", 1):
        assert post(deck).json()["count"] == 1
        assert post(deck).json()["count"] == 2
    assert not (tmp_path / "new").exists()
    with deck.call("hash", 0, "s", 1) as call:
        call.keep()  # nothing was asked
        post(deck)
        call.keep()
        assert post(deck).json()["count"] == 3  # played
    assert len(deck.cassette) == 1
    deck.close()
    assert live.closed


def calls_of_two_threads(deck):
    """Whether a second call of the same request begins while the first is under way."""
    first_is_in, second_is_in, let_go = threading.Event(), threading.Event(), threading.Event()

    def first():
        with deck.call("hash", 0, "s", 1):
            first_is_in.set()
            let_go.wait(10)

    def second():
        with deck.call("hash", 0, "s", 2):
            second_is_in.set()

    threads = [threading.Thread(target=work) for work in (first, second)]
    threads[0].start()
    assert first_is_in.wait(10)
    threads[1].start()
    while not second_is_in.is_set() and not any(turn.wanted == 2 for turn in list(deck._turns.values())):
        second_is_in.wait(0.001)
    together = second_is_in.is_set()
    let_go.set()
    for thread in threads:
        thread.join()
    assert second_is_in.is_set()
    return together


def test_equal_requests_take_turns_while_recording_and_never_in_a_replay(tmp_path):
    assert calls_of_two_threads(TapeDeck(Cassette(tmp_path), "gpt-4o"))
    assert not calls_of_two_threads(TapeDeck(Cassette(tmp_path), "gpt-4o", Live()))


@pytest.mark.parametrize("live", [None, Live()])
def test_a_deck_remembers_no_call_that_is_over(tmp_path, live):
    deck = TapeDeck(Cassette(tmp_path), "gpt-4o", live)
    for number in range(100):
        with pytest.raises(KeyError), deck.call(f"hash {number}", 0, "s", number):
            raise KeyError
    assert deck._turns == {}


def test_a_copied_cassette_folder_plays_under_any_name(lab):
    with AoaiServer() as server:
        recorded = lab.record(["a"], server)
    moved = shutil.move(lab.cassette, lab.folder / "elsewhere")
    same(recorded, lab.run(["a"], cassette=Path(moved)))


def test_a_request_that_is_refused_for_good_is_recorded_and_refused_again_in_replay(
    tmp_path, write_dataset, write_config, monkeypatch
):
    too_long = {"code": "context_length_exceeded", "message": "This prompt has too many tokens."}
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)
    options = {"cassette": "tape", "max_errors": 5}
    with AoaiServer(answer=lambda _body, _count: Reply(status=400, error=too_long)) as server:
        config = write_config(server.endpoint)
        live = mmlu_pipe.run(write_dataset(2), other_config=config, record_mode="once", output_dir="a", **options)
    again = mmlu_pipe.run(write_dataset(2), output_dir="b", **options)
    assert live.outputs["errors.jsonl"].read_bytes() == again.outputs["errors.jsonl"].read_bytes()
    assert again.score.failed_by_kind == {"rejected": 2}

import base64
import gzip
import json
import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmlu_pipe.errors import RecordingError, SecretInCassette
from mmlu_pipe.recording.leaks import Leak, check_clean, find_leaks
from tests.conftest import ROOT

HEX = "3fa9c0ffee5e1d0a47be6b21d90c88e1"
LONG = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1B" * 3
GUID = "72f988bf-86f1-41af-91ab-2d7cd011db47"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL2NvZyJ9.c2lnbmF0dXJl"
SHA = "ca3c14ae7d2b4e58cc00e00d74589eef181340d0e177c06687a9b94769a840af"

CREDENTIALS = {
    f"the key {HEX} is mine": HEX,
    f"the key {LONG} is mine": LONG,
    "use sk-proj-a1B2c3D4e5F6g7H8i9J0k1": "sk-proj-a1B2c3D4e5F6g7H8i9J0k1",
    "api-key: s3cretS3cretValue": "s3cretS3cretValue",
    "Authorization: Bearer abc123.def456-ghi789": "abc123.def456-ghi789",
    f"({JWT})": JWT,
    "https://a.example/x?sv=1&sig=AbC%2Bd3f4g5h6i7j8k9%3D": "AbC%2Bd3f4g5h6i7j8k9%3D",
    "AccountName=a;AccountKey=q83vEjRWeJCrze8=;": "q83vEjRWeJCrze8=",
    "https://ada:hunter2pass@gw.example/": "hunter2pass",
}
NAMES = {
    "asked https://contoso.openai.azure.com/": "contoso.openai.azure.com",
    "asked contoso.openai.azure.us": "contoso.openai.azure.us",
    "asked contoso.openai.azure.cn": "contoso.openai.azure.cn",
    "asked contoso.services.ai.azure.com": "contoso.services.ai.azure.com",
    "asked contoso.cognitiveservices.azure.com": "contoso.cognitiveservices.azure.com",
    "asked contoso.azure-api.net": "contoso.azure-api.net",
    f"on /subscriptions/{GUID}/x": GUID,
    "on /resourceGroups/rg-contoso/providers": "rg-contoso",
    f"Tenant provided in token: {GUID}": GUID,
    f"include the Request ID {GUID} in it": GUID,
    "answer chatcmpl-AbC123xyz": "chatcmpl-AbC123xyz",
    "POST /openai/deployments/ada-private/chat": "ada-private",
}
HEADERS = {
    "api-key": "short",
    "Ocp-Apim-Subscription-Key": "short",
    "Authorization": "Basic abc",
    "Set-Cookie": "session=short; path=/",
    "Cookie": "session=short",
    "apim-request-id": GUID,
    "x-request-id": GUID,
    "x-ms-client-request-id": GUID,
    "x-ms-region": "East US",
    "x-ms-deployment-name": "ada-private",
    "azureml-model-session": "d014",
    "OpenAI-Organization": "org-contoso",
    "openai-project": "proj_contoso",
}
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).filter(lambda text: "sig=" not in text)


def exchange(*, said="hi", asked="hello", headers=None, uri="", stream=False, **more):
    if stream:
        pieces = [{"id": "chatcmpl-0", "choices": [{"delta": {"content": part}}]} for part in (said[:9], said[9:])]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in [*pieces, more]) + "data: [DONE]\n\n"
    else:
        body = json.dumps({"id": "chatcmpl-0", "choices": [{"message": {"content": said}}]} | more, ensure_ascii=False)
    where = uri or "https://aoai.invalid/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": asked}]}
    return {
        "request": {"body": json.dumps(request), "headers": headers or {}, "method": "POST", "uri": where},
        "response": {"body": {"string": body}, "headers": headers or {}, "status": {"code": 200, "message": "OK"}},
    }


def write(path, *items, width=1_000_000, **how):
    text = yaml.safe_dump({"version": 1, "interactions": list(items)}, width=width, allow_unicode=True, **how)
    path.write_bytes(text.encode())
    return text.split("\n")


def places(folder, **how):
    return {(leak.file.name, leak.line) for leak in find_leaks(folder, **how)}


def lines_with(lines, *spelt):
    return {number for number, line in enumerate(lines, start=1) if any(form in line for form in spelt)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clean.yaml").write_text("", encoding="utf-8")
    return tmp_path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    planted=st.sampled_from(sorted((CREDENTIALS | NAMES).items())),
    around=st.tuples(texts, texts),
    place=st.sampled_from(["said", "asked", "error", "user"]),
    stream=st.booleans(),
    before=st.integers(0, 2),
    width=st.sampled_from([80, 1_000_000]),
)
def test_a_planted_secret_is_found_where_it_is(folder, planted, around, place, stream, before, width):
    sentence, secret = planted
    text = f"{around[0]} {sentence} {around[1]}"
    if place in ("said", "asked"):
        item = exchange(**{place: text}, stream=stream)
    else:
        item = exchange(**{place: {"message": text}}, stream=stream)
    lines = write(folder / "one.yaml", *[exchange()] * before, item, width=width)
    hidden = place in ("said", "asked") and sentence in NAMES
    found = find_leaks(folder)
    if hidden:
        assert [leak for leak in found if leak.kind in ("host", "subscription", "deployment name")] == []
        return
    assert found
    assert secret not in repr(found)
    expected = lines_with(lines, secret)
    if expected and width > 80:  # not where a stream cut it in pieces
        assert expected <= {leak.line for leak in found}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("part", ["request", "response"])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("lower", [True, False])
def test_headers_are_found(folder, name, part, listed, lower):
    item = exchange()
    item[part]["headers"] = {name.lower() if lower else name: [HEADERS[name]] if listed else HEADERS[name]}
    lines = write(folder / "one.yaml", exchange(), item)
    assert places(folder) == {("one.yaml", line) for line in lines_with(lines, HEADERS[name])}
    (folder / "one.yaml").unlink()
    text = json.dumps({"interactions": [exchange(), item]}, indent=1)
    (folder / "two.json").write_text(text, encoding="utf-8")
    assert places(folder) == {("two.json", line) for line in lines_with(text.split("\n"), HEADERS[name])}


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("https://contoso.openai.azure.com/openai/v1/chat/completions", "host"),
        ("https://gw.contoso.example/chat/completions", "host"),
        ("https://aoai.invalid/openai/deployments/ada-private/chat/completions", "deployment name"),
        ("https://aoai.invalid/openai/deployments/DEPLOYMENT-2/chat/completions", "deployment name"),
        ("https://aoai.invalid/chat/completions?subscription-key=s3cretS3cret", "API key"),
        ("https://aoai.invalid/chat/completions?sv=1&sig=AbC%2Bd3f4g5h6i7j8k9", "SAS signature"),
    ],
)
def test_uris(folder, uri, kind):
    lines = write(folder / "one.yaml", exchange(), exchange(uri=uri))
    line = 1 + next(number for number, line in enumerate(lines) if uri in line)
    assert {(leak.line, leak.kind) for leak in find_leaks(folder)} == {(line, kind)}


@pytest.mark.parametrize("name", ["id", "request_id"])
def test_ids_of_responses(folder, name):
    write(folder / "one.yaml", exchange(**{name: GUID}))
    assert [leak.kind for leak in find_leaks(folder)] == ["request id"]


@pytest.mark.parametrize("sentence", CREDENTIALS)
def test_lines_of_jsonl(folder, sentence):
    line = json.dumps({"question": "what?", "choices": ["a", sentence]})
    (folder / "output.jsonl").write_text(f'{{"question": "fine"}}\n\n{line}\n', encoding="utf-8")
    assert places(folder) == {("output.jsonl", 3)}


@pytest.mark.parametrize("sentence", NAMES)
def test_what_an_error_says_and_what_a_question_says(folder, sentence):
    path = folder / "errors.jsonl"
    path.write_text(json.dumps({"question": sentence, "_error": {"message": "no"}}) + "\n", encoding="utf-8")
    assert places(folder) == set()
    path.write_text(json.dumps({"question": "?", "_error": {"message": sentence}}) + "\n", encoding="utf-8")
    assert places(folder) == {("errors.jsonl", 1)}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_binary_bodies(folder, pack):
    item = exchange()
    body = base64.b64encode(pack(json.dumps({"error": {"message": f"key {HEX}"}}).encode())).decode()
    text = yaml.safe_dump({"interactions": [item]}).replace("string: ", f"string: !!binary {body} # ")
    (folder / "one.yaml").write_text(text, encoding="utf-8")
    assert [leak.kind for leak in find_leaks(folder)] == ["API key"]


def test_comments_and_torn_files(folder):
    lines = write(folder / "one.yaml", exchange(), exchange())
    lines[3] = "# from https://contoso.openai.azure.com"
    lines.insert(3, lines[2].replace("body", "more"))
    (folder / "one.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert ("one.yaml", 5) in places(folder)
    torn = f"interactions:\n- request:\n    headers:\n      api-key:\n      - short\n    body: 'said {HEX}"
    (folder / "one.yaml").write_text(torn, encoding="utf-8")
    assert places(folder) == {("one.yaml", 5), ("one.yaml", 6)}
    (folder / "one.yaml").write_text("[" * 5000 + HEX, encoding="utf-8")
    assert places(folder) == {("one.yaml", 1)}
    (folder / "one.yaml").write_text("a: !!python/object/apply:os.system ['touch pwned']\n", encoding="utf-8")
    assert places(folder) == set()


def test_line_breaks_that_only_yaml_knows(folder):
    (folder / "one.yaml").write_text(f"a: 'x\u2028y'\nb: 'x\x85y'\nkey: {HEX}\n", encoding="utf-8", newline="\n")
    assert places(folder) == {("one.yaml", 3)}


def test_what_the_user_names(folder):
    item = exchange(said="made by Contoso", headers={"X-Team": ["blue"]})
    lines = write(folder / "one.yaml", item)
    assert places(folder) == set()
    expected = {("one.yaml", line) for line in lines_with(lines, "Contoso", "X-Team", "blue")}
    assert places(folder, also=["contoso", "x-team"]) == expected
    assert {leak.kind for leak in find_leaks(folder, also=["contoso"])} == {"named by --also"}


PLACES = [
    *("header of the request", "header of the response", "value in the request", "value in the response"),
    *("address", "asked", "said", "field of the request", "field of the response"),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    name=st.sampled_from(["Contoso", "x-team-name", "Blue Whale 7", "Größe"]),
    spelt=st.sampled_from([str, str.lower, str.upper]),
    around=st.tuples(texts, texts),
    place=st.sampled_from(PLACES),
    stream=st.booleans(),
    listed=st.booleans(),
    form=st.sampled_from(["yaml", "json"]),
)
def test_what_the_user_names_is_found_wherever_it_stands(folder, name, spelt, around, place, stream, listed, form):
    text = f"{around[0]}{spelt(name)}{around[1]}"
    clean = {"said": "hi", "asked": "hello"}
    item = exchange(stream=stream, **clean | ({place: text} if place in clean else {}))
    part = item[place.rpartition(" ")[2]] if "header" in place or "value" in place else {}
    if "header" in place:
        part["headers"] = {spelt(name): ["blue"] if listed else "blue"}
    elif "value" in place:
        part["headers"] = {"x-made-by": [text] if listed else text}
    elif place == "address":
        item["request"]["uri"] += f"&by={text}"
    elif place == "field of the request":
        body = json.loads(item["request"]["body"]) | {"metadata": {"by": text}}
        item["request"]["body"] = json.dumps(body, ensure_ascii=listed)
    elif place == "field of the response":
        item = exchange(stream=stream, by={"whom": text})
    for old in folder.iterdir():
        old.unlink()
    write(folder / "one.yaml", exchange(), item)
    if form == "json":
        (folder / "one.yaml").rename(folder / "one.json").write_text(json.dumps([exchange(), item]), encoding="utf-8")
    assert find_leaks(folder) == []
    found = find_leaks(folder, also=["not there", name])
    assert {leak.kind for leak in found} == {"named by --also"}
    assert spelt(name) not in repr(found)


def test_every_kind_that_the_page_lists_has_an_example_here(folder):
    page = (ROOT / "docs" / "cassettes.md").read_text(encoding="utf-8")
    rows = page.partition("| kind | what is found")[2].partition("\n\n")[0].split("\n")[2:]
    listed = {kind for row in rows for kind in re.findall(r"`([^`]+)`", row.split("|")[1])}
    items = [exchange(user=sentence) for sentence in CREDENTIALS | NAMES]
    items += [exchange(headers={name: [value]}) for name, value in HEADERS.items()]
    write(folder / "one.yaml", *items, exchange(said="named"))
    assert {leak.kind for leak in find_leaks(folder, also=["named"])} == listed


@pytest.mark.parametrize(
    "text",
    [
        "What is a Bearer token? It is a credential that anybody may bear.",
        "Which host is contoso.openai.azure.com, and what is chatcmpl-7?",
        "api-key: <key>, or api-key: your-key-goes-here-instead",
        f"The SHA-256 is {SHA}",
        "The MD5 hash of nothing is d41d8cd98f00b204e9800998ecf8427e",
        "01010101010101010101010101010101 in binary",
        "ACGT" * 21,
        "risk-based-decision-making-in-medicine-2 and task-12345678901234567890",
        "eyJ is how a JWT begins",
    ],
)
def test_questions_are_no_leaks(folder, text):
    write(folder / "one.yaml", exchange(said=text, asked=text), exchange(said=text, stream=True))
    (folder / "output.jsonl").write_text(json.dumps({"question": text, "choices": [text]}) + "\n", encoding="utf-8")
    assert find_leaks(folder) == []


def test_scrubbed_headers_are_no_leaks(folder):
    names = {name: ["REDACTED"] for name in HEADERS} | {"Authorization": ["Bearer **REDACTED**"]}
    write(folder / "one.yaml", exchange(headers=names))
    (folder / "provenance.json").write_text(json.dumps({"dataset": {"sha256": SHA}}, indent=2), encoding="utf-8")
    assert find_leaks(folder) == []


@pytest.mark.parametrize("path", sorted((ROOT / "cassettes").iterdir()), ids=lambda path: path.name)
def test_every_committed_cassette_is_clean(path):
    check_clean(path)


def test_a_default_run_folder_is_clean(tmp_path):
    subprocess.run([sys.executable, "-m", "mmlu_pipe", "run", "--output-dir", "out"], cwd=tmp_path, check=True)
    assert (tmp_path / "out" / "calls.jsonl").is_file()
    check_clean(tmp_path / "out")


def test_the_error_lists_the_places_and_no_secret(folder):
    (folder / "sub").mkdir()
    write(folder / "sub" / "one.yaml", *[exchange(user=HEX) for _ in range(60)])
    with pytest.raises(SecretInCassette, match="60 places hold") as caught:
        check_clean(folder)
    assert f"{folder / 'sub' / 'one.yaml'}:" in str(caught.value)
    assert "… and 10 more" in str(caught.value)
    assert HEX not in str(caught.value)
    assert caught.value.exit_code == 2
    assert str(Leak(folder, 3, "host")) == f"{folder}:3: host"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RecordingError, match="no such folder"):
        find_leaks(tmp_path / "none")

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.errors import SecretInCassette
from mmlu_pipe.recording.scrub import (
    deployment_of,
    refuse_secrets,
    scrub_request_body,
    scrub_response_body,
    scrub_uri,
)

KEY = "3fA9c0ffee5e1d0nTkEeP"
DATED = "https://contoso-secret.openai.azure.com/openai/deployments/ada-private/chat/completions?api-version=2024-10-21"


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


JWT = f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part({'aud': 'https://cognitiveservices.azure.com'})}.c2ln"

texts = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(
    [
        '"id":"chatcmpl-mine"',
        '{"id": "chatcmpl-mine", "request_id": "r-1", "model": "ada-private"}',
        '\\"id\\":\\"chatcmpl-mine\\"',
        'ends with "id',
        '": "chatcmpl-mine"',
        '"model":"ada-private"',
        "DEPLOYMENT aoai.invalid chatcmpl-0",
    ]
)


def completion(text, **more):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {
        "id": "chatcmpl-S3cret",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [choice],
    } | more


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        (DATED, "/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"),
        (
            DATED.replace("ada-private", "a%2Fb%20c"),
            "/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21",
        ),
        ("https://contoso-secret.services.ai.azure.com/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        (
            "https://gw.contoso.example/teams/tenant-42/openai/v1/chat/completions?api-version=preview",
            "/openai/v1/chat/completions?api-version=preview",
        ),
        (
            f"https://ada:{KEY}@gw.contoso.example:8443/openai/deployments/tenant-42/openai/deployments/ada-private"
            f"/chat/completions?subscription-key={KEY}&api-version=2024-10-21&sig={KEY}#frag-{KEY}",
            "/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21",
        ),
        (f"https://gw.contoso.example/{KEY}/chat/completions?api-version={KEY}%2Fx", "/chat/completions"),
    ],
)
def test_of_an_address_only_the_style_and_the_version_stay(uri, kept):
    assert scrub_uri(uri) == f"https://aoai.invalid{kept}"


def test_the_body_names_the_declared_model_and_nobody():
    body = {
        "model": "ada-private",
        "messages": [{"role": "user", "content": "hi"}],
        "user": "ada@contoso.example",
        "safety_identifier": "ada",
        "metadata": {"team": "secret"},
        "temperature": 0,
    }
    kept = json.loads(scrub_request_body(body, "gpt-4o"))
    assert kept == {"model": "gpt-4o", "messages": body["messages"], "temperature": 0}


@given(texts)
def test_a_prompt_is_recorded_as_it_is(text):
    recorded = scrub_request_body({"messages": [{"role": "user", "content": text}]}, "gpt-4o")
    assert json.loads(recorded)["messages"][0]["content"] == text
    recorded.encode()


@given(texts, st.booleans(), st.sampled_from([None, (",", ":"), (", ", " : ")]))
def test_a_models_text_is_never_altered(text, escaped, separators):
    value = completion(text, usage={"prompt_tokens": 1})
    body = json.dumps(value, ensure_ascii=escaped, separators=separators)
    scrubbed = scrub_response_body(body, "ada-private")
    assert json.loads(scrubbed) == value | {"id": "chatcmpl-0"}
    assert "S3cret" not in scrubbed


@given(st.lists(texts, max_size=4))
def test_a_streams_text_is_never_altered(pieces):
    events = [
        {"id": f"chatcmpl-S3cret{place}", "choices": [{"delta": {"content": piece}, "index": 0}]}
        for place, piece in enumerate(pieces)
    ]
    events.insert(0, {"id": "", "choices": [], "prompt_filter_results": []})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    lines = [line for line in scrub_response_body(body, "ada-private").split("\n") if line]
    assert [json.loads(line[6:]) for line in lines[:-1]] == [
        event | {"id": "chatcmpl-0"} if event["id"] else event for event in events
    ]
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize("spelt", ['"id":"{}"', '"id" : "{}"', '"request_id": "{}"'])
@pytest.mark.parametrize("name", ["chatcmpl-AbC123", "0d7b8c1e-5f00-4e3f-9a8e-1b2c3d4e5f60", "cmpl\\u002d1", 'a\\"b'])
def test_request_ids_of_any_form_go(spelt, name):
    body = "{" + spelt.format(name) + ', "choices": []}'
    scrubbed = scrub_response_body(body)
    assert name not in scrubbed
    json.loads(scrubbed)


def test_ids_of_tool_calls_stay_since_messages_refer_to_them():
    body = json.dumps(completion(None) | {"tool_calls": [{"id": "call_7"}]})
    assert '"call_7"' in scrub_response_body(body)


@pytest.mark.parametrize("name", ["ada-private", "ada's depløyment", 'quo"ted', "a.b(c"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_deployments_name_given_as_the_served_model_goes(name, escaped):
    scrubbed = scrub_response_body(json.dumps(completion(name) | {"model": name}, ensure_ascii=escaped), name)
    assert json.loads(scrubbed)["model"] == "DEPLOYMENT"
    assert json.loads(scrubbed)["choices"][0]["message"]["content"] == name


def test_the_served_model_stays():
    body = json.dumps(completion("hi") | {"id": ""})
    assert scrub_response_body(body, "ada-private") == body
    assert scrub_response_body(body, None) == body


def test_the_deployment_is_found_in_either_style():
    v1 = "https://contoso.openai.azure.com/openai/v1/chat/completions"
    assert deployment_of(DATED, {}, "gpt-4o") == "ada-private"
    assert deployment_of(DATED.replace("ada-private", "a%2Fb"), {}, "gpt-4o") == "a/b"
    assert deployment_of(v1, {"model": "ada-private"}, "gpt-4o") == "ada-private"
    assert deployment_of(v1, {"model": "gpt-4o"}, "gpt-4o") is None
    assert deployment_of(v1, {}, "gpt-4o") is None


@pytest.mark.parametrize(
    "planted",
    [
        f"my key is {KEY}.",
        KEY,
        f"Authorization: Bearer {JWT}",
        f"({JWT})",
        JWT.rsplit(".", 1)[0],
        json.dumps({"api-key": KEY}),
    ],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_a_credential_in_a_text_is_refused_and_never_shown(planted, escaped):
    text = json.dumps({"messages": [{"role": "user", "content": planted}]}, ensure_ascii=escaped)
    with pytest.raises(SecretInCassette, match=r"line 7, request: holds a credential") as caught:
        refuse_secrets(text, [KEY], "line 7, request")
    assert caught.value.where == "line 7, request"
    assert KEY not in str(caught.value)
    assert JWT[:20] not in str(caught.value)


def test_a_credential_is_found_in_its_escaped_spelling():
    with pytest.raises(SecretInCassette):
        refuse_secrets(json.dumps('before pass"word\\ after'), ['pass"word\\'], "line 1, response")


@pytest.mark.parametrize(
    "text", ["What is a Bearer token?", "api-key: <key>", "eyJ is how a JWT begins", "eyJhbGciOi.eyJh", ""]
)
def test_talk_about_credentials_is_no_credential(text):
    refuse_secrets(json.dumps(text), [KEY, ""], "line 1, request")

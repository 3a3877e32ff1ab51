"""Every body that is sent has the shape of the public REST specification, told here in our words.

What was compared with what, and each difference, is in docs/fidelity.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.backends.azureml.environment import IMAGE
from mmlu_pipe.config import CLOUD_OPTIONS
from mmlu_pipe.plugins import registry
from mmlu_pipe.rehearsal import Azurite, Recorded, Twin
from tests.backends.azureml.conftest import InFork

Json = dict[str, Any]

BRING = "tests.backends.azureml.tasks_register:bring"
PUBLISH = "tests.backends.azureml.tasks_datasets:publish"
CLIENT_ID = "11111111-2222-4333-8444-555555555555"
JOBS: dict[str, Json] = {
    "managed": {},
    "user_assigned": {"identity": CLIENT_ID},
    "user": {"identity": "user"},
    "serverless": {"compute": "serverless"},
    "resumed": {"resume_from": "job_0"},
    "everything": {
        "rpm": 60,
        "tpm": 1000,
        "seed": 0,
        "lines": "1,3-4",
        "require": ["seed"],
        "reasoning_effort": "low",
        "response_key": "zero_shot_choice",
        "stream": True,
        "max_errors": "5%",
        "output_encoding": "utf-8-sig",
        "version_scheme": "epoch",
    },
}


def one_of(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def text(pattern: str) -> Json:
    return {"type": "string", "pattern": f"^({pattern})$"}


def record(required: Json, optional: Json | None = None) -> Json:
    """An object with these members and no other."""
    members = required | (optional or {})
    return {"type": "object", "required": list(required), "properties": members, "additionalProperties": False}


def mapping(member: Json, names: str = r".+", longest: int = 255) -> Json:
    return {
        "type": "object",
        "propertyNames": text(names) | {"maxLength": longest},
        "additionalProperties": member,
    }


NAME = r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}"
VERSION = r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,29}"
PORT = r"(?!(path|ld_library_path|user|logname|home|pwd|shell)$)[a-zA-Z_][a-zA-Z0-9_]*"
WORKSPACE = (
    r"/subscriptions/[0-9a-f-]{36}/resourceGroups/[\w.()-]+/providers/Microsoft\.MachineLearningServices"
    rf"/workspaces/{NAME}"
)
REGISTRY = rf"azureml://registries/{NAME}"
BLOB = r"azureml://datastores/workspaceblobstore/paths/([\w.-]+/)*[\w.-]"
EXPRESSION = r"\$\{\{parent\.(jobs\.[a-z_]+\.)?outputs\.[a-z_]+\}\}"

FLAG: Json = {"type": "boolean"}
TEXT: Json = {"type": "string"}
TAGS = mapping({"type": "string", "maxLength": 1000}, longest=100) | {"maxProperties": 50}
ASSET: Json = {"description": TEXT, "tags": TAGS, "properties": mapping(TEXT), "isAnonymous": FLAG, "isArchived": FLAG}
DATA_TYPE = one_of("uri_file", "uri_folder")

DATA = record({"dataUri": text(rf"{BLOB}+"), "dataType": one_of("uri_file")}, ASSET)
ENVIRONMENT = record({"image": text(r"[a-z0-9./-]+:[\w.-]+"), "condaFile": TEXT}, ASSET | {"osType": one_of("Linux")})
HASH = record({"hash_sha256": text(r"[0-9a-f]{64}"), "hash_version": {}})  # 1.35.2 sends the second as a number
CODE = record({"codeUri": text(r"https://[\w.-]+(:443)?/[\w-]+/\w+")}, ASSET | {"properties": HASH})
PENDING_UPLOAD = record({"pendingUploadType": one_of("TemporaryBlobReference")}, {"pendingUploadId": TEXT})
TEMPORARY_DATA = record(
    {
        "assetId": text(rf"{REGISTRY}/(environments|codes)/{NAME}/versions/{VERSION}"),
        "temporaryDataReferenceType": one_of("TemporaryBlobReference"),
    }
)
SECRETS = record({}, {"expirableSecret": FLAG, "expireAfterHours": {"type": "integer"}})

INPUT = record(
    {"type": one_of("uri_file", "uri_folder", "string", "integer", "number", "boolean")},
    {"description": TEXT, "optional": {"const": True}, "default": {"type": "string", "minLength": 1}},
) | {"not": {"required": ["optional", "default"]}}
SPEC = record(
    {
        "type": {"const": "command"},
        "name": text(r"[a-z][a-z0-9_]{0,254}"),
        "version": text(VERSION),
        "command": text(r"python -m [\w.]+( [^\r\n\\]+)*"),
        "code": text(rf"azureml:{WORKSPACE}/codes/{NAME}/versions/1|{REGISTRY}/codes/{NAME}/versions/1"),
        "environment": text(rf"(azureml:{WORKSPACE}|{REGISTRY})/environments/{NAME}/versions/{VERSION}"),
        "is_deterministic": FLAG,
        "inputs": mapping(INPUT, PORT),
        "outputs": mapping(record({"type": DATA_TYPE}, {"description": TEXT}), PORT),
    },
    {"$schema": TEXT, "display_name": TEXT, "description": TEXT, "tags": TAGS, "_source": TEXT},
)
COMPONENT = record({"componentSpec": SPEC}, ASSET)

LITERAL = record({"job_input_type": {"const": "literal"}, "value": {"type": "string", "minLength": 1}})
FILE = record(
    {"job_input_type": DATA_TYPE, "uri": text(rf"{WORKSPACE}/data/{NAME}/versions/{VERSION}|{BLOB}+/?")},
    {"mode": one_of("ReadOnlyMount", "Download", "Direct")},
)
BOUND = record({"type": {"const": "literal"}, "value": text(r"\$\{\{parent\.outputs\.[a-z_]+\}\}")})
IDENTITY = {
    "oneOf": [
        record({"identity_type": {"const": "UserIdentity"}}),
        record({"identity_type": {"const": "Managed"}}, {"client_id": text(r"[0-9a-f-]{36}")}),
    ]
}
NODE = record(
    {
        "name": text(r"[a-z_]+"),
        "type": {"const": "command"},
        "componentId": text(rf"({WORKSPACE}|{REGISTRY})/components/[a-z0-9_]+/versions/{VERSION}"),
        "inputs": mapping({"oneOf": [LITERAL, FILE]}, PORT),
        "outputs": mapping(BOUND, PORT),
    },
    {"computeId": text(rf"{WORKSPACE}/computes/{NAME}"), "identity": IDENTITY, "_source": TEXT},
)
OUTPUT = record(
    {"jobOutputType": DATA_TYPE, "uri": text(rf"{BLOB}+/?"), "mode": one_of("ReadWriteMount", "Upload", "Direct")}
)
JOB = record(
    {
        "jobType": {"const": "Pipeline"},
        "experimentName": text(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}"),
        "jobs": mapping(NODE, r"[a-zA-Z_]\w*"),
        "outputs": mapping(OUTPUT, PORT) | {"maxProperties": 20},
    },
    {
        "displayName": {"type": "string", "maxLength": 256},
        "tags": TAGS,
        "properties": mapping(TEXT),
        "inputs": mapping({"not": {}}),
        "isArchived": FLAG,
        "settings": record({}, {"default_compute": text(rf"{WORKSPACE}/computes/serverless"), "_source": TEXT}),
    },
)

SHAPES = {
    "data/*/versions/*": record({"properties": DATA}),
    "environments/*/versions/*": record({"properties": ENVIRONMENT}),
    "codes/*/versions/*": record({"properties": CODE}),
    "codes/*/versions/*/startPendingUpload": PENDING_UPLOAD,
    "components/*/versions/*": record({"properties": COMPONENT}),
    "jobs/*": record({"properties": JOB}),
    "tempdatarefs/*/versions/*": TEMPORARY_DATA,
    "datastores/*/listSecrets": SECRETS,
}


def shape_of(request: Recorded) -> str:
    return request.route.removeprefix("mferp/managementfrontend/registries/*/")


@pytest.fixture(scope="module")
def sent(azurite: Azurite, in_fork: InFork) -> Iterator[list[Recorded]]:
    """All that was written by six submissions and one publication; no step runs, since the image cannot be built."""
    with Twin(sys.executable, storage=azurite, broken_images={"mmlu_pipe": "not here"}) as twin:
        for name, options in JOBS.items():
            in_fork(twin, BRING, submits=True, job_name=f"job_{name}", **options)
        in_fork(twin, PUBLISH, arguments=["--registry", "twin-registry", "--version", "1.2.0-rc.1"])
        written = [request for request in twin.requests if request.method in ("PUT", "POST")]
        yield [kept for kept in written if not kept.route.startswith("blob/") and "oauth2" not in kept.route]


@pytest.fixture(scope="module")
def bodies(sent: list[Recorded]) -> Callable[[str], list[Json]]:
    return lambda route: [kept.body["properties"] for kept in sent if shape_of(kept) == route]


def test_every_body_has_the_shape_of_the_specification(sent: list[Recorded]) -> None:
    jsonschema = pytest.importorskip("jsonschema")  # comes with azure-ai-ml
    assert {shape_of(kept) for kept in sent} == SHAPES.keys()
    for kept in sent:
        for error in jsonschema.Draft202012Validator(SHAPES[shape_of(kept)]).iter_errors(kept.body or {}):
            pytest.fail(f"{kept.route}: {error.json_path}: {error.message}")


def test_names_and_versions_are_those_that_the_service_takes(sent: list[Recorded]) -> None:
    places = [re.findall(r"/(\w+)/([^/]+)/versions/([^/]+)$", kept.path) for kept in sent]
    named = [found[0] for found in places if found]
    assert {kind for kind, _, _ in named} == {"data", "environments", "codes", "components", "tempdatarefs"}
    for _, name, version in named:
        assert re.fullmatch(NAME, name), name
        assert re.fullmatch(VERSION, version), version


def test_every_kind_of_job_says_what_it_is_for(bodies: Callable[[str], list[Json]]) -> None:
    jobs = dict(zip(JOBS, bodies("jobs/*"), strict=True))
    ask = {name: job["jobs"]["run_aoai_guidance"] for name, job in jobs.items()}
    assert ask["managed"]["identity"] == {"identity_type": "Managed"}
    assert ask["user_assigned"]["identity"] == {"identity_type": "Managed", "client_id": CLIENT_ID}
    assert ask["user"]["identity"] == {"identity_type": "UserIdentity"}
    assert all("identity" not in job["jobs"]["score_results"] for job in jobs.values())
    assert {name for name, step in ask.items() if "computeId" not in step} == {"serverless"}
    assert {name for name, job in jobs.items() if "default_compute" in job["settings"]} == {"serverless"}
    assert ask["resumed"]["inputs"]["resume_from"]["uri"].endswith("/paths/mmlu_pipe/job_0/checkpoints/")
    values = {key: bound["value"] for key, bound in ask["everything"]["inputs"].items() if "value" in bound}
    assert (values["seed"], values["stream"], values["max_errors"]) == ("0", "True", "5%")


def test_a_component_names_each_of_its_ports_once_in_quotes_of_the_shell(bodies: Callable[[str], list[Json]]) -> None:
    for body in bodies("components/*/versions/*"):
        spec = body["componentSpec"]
        required = re.sub(r"\$\[\[.*?\]\]", "", spec["command"])
        for ports in ("inputs", "outputs"):
            for name, port in spec[ports].items():
                argument = f"--{name}='${{{{{ports}.{name}}}}}'"
                assert spec["command"].count(argument) == 1
                assert (argument in required) != port.get("optional", False)
        assert len(re.findall(r"\$\{\{", spec["command"])) == len(spec["inputs"]) + len(spec["outputs"])


def test_what_a_step_is_given_its_component_declares_and_can_read(bodies: Callable[[str], list[Json]]) -> None:
    specs = {body["componentSpec"]["name"]: body["componentSpec"] for body in bodies("components/*/versions/*")}
    components = registry("components")
    for job in bodies("jobs/*"):
        for step in job["jobs"].values():
            name = step["componentId"].split("/")[-3]
            ports = {port.name: port for port in components[name].ports}
            assert step["inputs"].keys() <= specs[name]["inputs"].keys()
            assert step["outputs"].keys() == specs[name]["outputs"].keys()
            required = {key for key, port in specs[name]["inputs"].items() if not {"optional", "default"} & port.keys()}
            assert required <= step["inputs"].keys()
            for key, bound in step["inputs"].items():
                if bound["job_input_type"] == "literal" and "${{" not in bound["value"]:
                    ports[key].check(ports[key].parse(bound["value"]))
        assert {bound["value"] for step in job["jobs"].values() for bound in step["outputs"].values()} == {
            f"${{{{parent.outputs.{name}}}}}" for name in job["outputs"]
        }


def test_an_environment_is_an_exact_image_with_a_python_and_pins(bodies: Callable[[str], list[Json]]) -> None:
    for body in bodies("environments/*/versions/*"):
        assert (body["image"], body["image"].endswith(":latest")) == (IMAGE, False)
        conda = yaml.safe_load(body["condaFile"])
        python, pip, packages = conda["dependencies"]
        assert (re.fullmatch(r"python=3\.\d+", python) is not None, pip) == (True, "pip")
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in packages["pip"])
        assert len(body["condaFile"].encode()) < 1_000_000  # a build context's limit


def test_every_option_of_a_job_is_among_those_that_are_compared() -> None:
    compared = {option for options in JOBS.values() for option in options} - {"compute"}
    elsewhere = {"gate", "wait", "workspace_config", "environment", "extra_package", "components"}
    assert set(CLOUD_OPTIONS) <= compared | elsewhere


NASTY = [
    "1234567890123456",
    "0123456701234567",
    "0000000000000000",
    "12e4567890123456",
    "0e12345678901234",
    "1234567890123e45",
    "00e4dca294ac8eb2",
    "0b10101010101010",
    "1753272000",
]


def test_a_version_that_looks_like_a_number_stays_a_text_in_the_sdk(azurite: Azurite, in_fork: InFork) -> None:
    with Twin(sys.executable, storage=azurite) as twin:
        found = in_fork(twin, "tests.backends.azureml.tasks_bodies:loaded", versions=NASTY)
    assert found == {version: [version] * 9 for version in NASTY}


@given(st.text("0123456789abcdef", min_size=16, max_size=16) | st.from_regex(r"[0-9]{1,14}e[0-9]{1,2}", fullmatch=True))
def test_no_version_becomes_a_number_in_a_document(version: str) -> None:
    document = {"version": version, "environment": f"azureml:mmlu_pipe:{version}"}
    assert yaml.safe_load(yaml.safe_dump(document)) == document

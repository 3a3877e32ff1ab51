"""What is sent, as plain documents; UPDATE_GOLDEN=1 writes the golden files anew."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmlu_pipe.backends.azureml.documents import component_document, data_document
from mmlu_pipe.backends.azureml.environment import environment_document, job_requirements
from mmlu_pipe.backends.azureml.render import new_job_name, submission
from mmlu_pipe.backends.azureml.submission import Asset, Submission
from mmlu_pipe.bundled import SAMPLE_DATASETS, bundled_programs
from mmlu_pipe.config import Computes, RunConfig
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.hashing import sha256_file
from mmlu_pipe.pipeline import mmlu_pipeline, service_name
from mmlu_pipe.plugins import registry
from mmlu_pipe.records import Endpoint, JsonObject

GOLDEN = Path(__file__).with_name("golden")
ENDPOINT = Endpoint("https://my-resource.openai.azure.com", "my-gpt-4o", "gpt-4o", "2024-10-21")
CLIENT_ID = "11111111-2222-4333-8444-555555555555"


def _sent(
    computes: Computes | None = None,
    dataset: Path | None = None,
    program: Path | None = None,
    dataset_keys: tuple[str, ...] = ("question", "choices", "correct_answer"),
    **options: Any,
) -> Submission:
    config = RunConfig(backend="azureml", **options)
    config.check()
    pipeline = mmlu_pipeline(
        config,
        dataset=dataset or SAMPLE_DATASETS["sample"],
        program=program or bundled_programs()["zero_shot"],
        endpoint=ENDPOINT,
        cassette=None,
        dataset_keys=dataset_keys,
    )
    return submission(pipeline, config, computes or Computes("aoai-cluster", "cpu-cluster"), "job_1")


def _asset(sent: Submission, name: str) -> Asset:
    (found,) = (asset for asset in sent.assets if asset.name == name)
    return found


def _ask(sent: Submission) -> JsonObject:
    found: JsonObject = sent.job["jobs"]["run_aoai_guidance"]
    return found


def _golden_documents() -> dict[str, JsonObject]:
    components = registry("components")
    documents = {
        name: component_document(components[name], version="golden", environment="azureml:mmlu_pipe:golden", tags={})
        for name in ("jsonl_guidance_aoai", "jsonl_score_multiplechoice")
    }
    return {**documents, "environment": environment_document(job_requirements()) | {"version": "golden"}}


@pytest.mark.parametrize("name", ["jsonl_guidance_aoai", "jsonl_score_multiplechoice", "environment"])
def test_the_rendered_documents_are_the_golden_ones(name: str) -> None:
    path = GOLDEN / f"{name}.yml"
    text = yaml.safe_dump(_golden_documents()[name], sort_keys=False, allow_unicode=True, width=100)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == text, "look at the difference, then UPDATE_GOLDEN=1 writes it"


def test_the_sdk_loads_the_golden_documents(tmp_path: Path) -> None:
    pytest.importorskip("azure.ai.ml", reason="pip install -c constraints.txt -e '.[test]'")
    (tmp_path / "code" / "mmlu_pipe").mkdir(parents=True)
    for path in GOLDEN.glob("*.yml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = (
        "import json, logging; logging.disable()\n"
        "from azure.ai.ml import load_component, load_environment\n"
        "found = [load_component(f'{name}.yml') for name in ('jsonl_guidance_aoai', 'jsonl_score_multiplechoice')]\n"
        "environment = load_environment('environment.yml')\n"
        "print(json.dumps([[c.name, c.version, c.is_deterministic, len(c.inputs), len(c.outputs)] for c in found]\n"
        "    + [[environment.name, environment.version, len(environment.conda_file['dependencies'])]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer, score, environment = json.loads(done.stdout.splitlines()[-1])
    documents = _golden_documents()
    for found, deterministic in ((answer, False), (score, True)):
        document = documents[found[0]]
        assert found[1:] == ["golden", deterministic, len(document["inputs"]), len(document["outputs"])]
    assert environment == ["mmlu_pipe", "golden", 3]


def test_equal_content_has_one_version_and_other_content_another(tmp_path: Path) -> None:
    once, again = _sent(), _sent()
    assert [asset.reference for asset in once.assets] == [asset.reference for asset in again.assets]
    (tmp_path / "sample_test.jsonl").write_bytes(SAMPLE_DATASETS["sample"].read_bytes() + b"\n")
    other = _sent(dataset=tmp_path / "sample_test.jsonl")
    changed = {asset.name for asset, new in zip(once.assets, other.assets, strict=True) if asset.version != new.version}
    assert changed == {"sample_test"}


def test_every_reference_of_a_job_is_exact() -> None:
    sent = _sent()
    job = json.dumps(sent.job)
    assert "@" not in job
    assert "latest" not in json.dumps(sent.job["jobs"])
    for name in ("sample_test", "guidance_program_zero_shot", "jsonl_guidance_aoai", "jsonl_score_multiplechoice"):
        asset = _asset(sent, name)
        assert asset.version == asset.sha256[:16]
        assert f'"{asset.reference}"' in job
    environment = _asset(sent, "mmlu_pipe")
    assert _asset(sent, "jsonl_guidance_aoai").document["environment"] == environment.reference


def test_the_epoch_scheme_gives_every_submission_versions_of_its_second() -> None:
    versions = {asset.version for asset in _sent(version_scheme="epoch").assets}
    assert len(versions) == 1
    assert versions.pop().isdigit()


def test_the_step_that_asks_is_not_reused_and_the_one_that_scores_is() -> None:
    sent = _sent()
    deterministic = {
        asset.name: asset.document["is_deterministic"] for asset in sent.assets if asset.kind == "component"
    }
    assert deterministic == {"jsonl_guidance_aoai": False, "jsonl_score_multiplechoice": True}


@pytest.mark.parametrize(
    ("identity", "node", "inputs"),
    [
        ("managed", {"type": "managed"}, {"auth": "managed"}),
        ("user", {"type": "user_identity"}, {"auth": "user"}),
        (
            CLIENT_ID,
            {"type": "managed", "client_id": CLIENT_ID},
            {"auth": "managed", "identity_client_id": CLIENT_ID},
        ),
    ],
)
def test_the_identity_stands_on_the_step_that_asks_and_in_its_inputs(
    identity: str, node: JsonObject, inputs: JsonObject
) -> None:
    sent = _sent(identity=identity)
    assert _ask(sent)["identity"] == node
    assert inputs.items() <= _ask(sent)["inputs"].items()
    assert "identity" not in sent.job["jobs"]["score_results"]


def test_each_step_runs_on_its_own_compute() -> None:
    jobs = _sent().job["jobs"]
    assert [jobs[name]["compute"] for name in jobs] == ["azureml:aoai-cluster", "azureml:cpu-cluster"]


def test_a_serverless_step_takes_the_default_and_the_other_its_own() -> None:
    sent = _sent(Computes("serverless", "cpu-cluster"))
    assert sent.job["settings"] == {"default_compute": "azureml:serverless"}
    assert "compute" not in _ask(sent)
    assert sent.computes == ("cpu-cluster",)


def test_outputs_have_places_of_their_own_under_the_name_of_the_job() -> None:
    sent = _sent()
    assert sent.outputs["output_dataset"].endswith("/paths/mmlu_pipe/job_1/output_dataset/output.jsonl")
    assert len(set(sent.outputs.values())) == len(sent.outputs) == 6
    assert "ledger" not in sent.outputs
    assert sent.job["outputs"].keys() == sent.outputs.keys()


def test_a_job_goes_on_from_the_checkpoints_of_an_earlier_one() -> None:
    value = _ask(_sent(resume_from="job_0"))["inputs"]["resume_from"]
    assert value["path"] == _sent().outputs["checkpoints"].replace("job_1", "job_0")


def test_what_no_command_line_can_carry_is_refused() -> None:
    with pytest.raises(ConfigError, match="response_key holds a quote"):
        _sent(response_key="it's")


def test_any_key_of_a_dataset_reaches_the_job() -> None:
    keys = ("author's", "a ${{inputs.b}} $[[c]]", "dätä", "line\nbreak", 'a "b"')
    text = _sent(dataset_keys=keys).job["jobs"]["score_results"]["inputs"]["dataset_keys"]
    assert json.loads(text) == list(keys)
    assert not set("'$\n") & set(text)


NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")


@given(st.text(min_size=1, max_size=300).filter(lambda text: not set("/\\\0") & set(text) and text not in (".", "..")))
def test_every_file_has_a_name_that_the_service_and_a_shell_take(text: str) -> None:
    assert NAME.fullmatch(service_name(text))
    assert NAME.fullmatch(service_name(f"simple_{text}"))
    path = data_document("any", version="1", path=Path(text), tags={})["path"]
    assert re.fullmatch(r"\./data/[\w-]+(\.[\w-]+)?", path, re.ASCII)


def test_a_name_that_the_service_takes_stays_as_it_is() -> None:
    for name in ("mmlu_high_school_physics_validation", "simple_mmlu_all_test", "A-b_3"):
        assert service_name(name) == name


def test_names_of_files_with_blanks_dots_and_quotes_are_sent_without(tmp_path: Path) -> None:
    dataset, program = tmp_path / "my.dätä 1.jsonl", tmp_path / "it's.py"
    dataset.write_bytes(SAMPLE_DATASETS["sample"].read_bytes())
    program.write_bytes(bundled_programs()["zero_shot"].read_bytes())
    sent = _sent(dataset=dataset, program=program, guidance_program=str(program))
    found = {asset.name: asset.document["path"] for asset in sent.assets if asset.kind == "data"}
    assert found == {"my_d_t__1": "./data/my_d_t__1.jsonl", "guidance_program_it_s": "./data/it_s.py"}
    assert sent.experiment == sent.job["experiment_name"] == "simple_my_d_t__1"
    assert sent.job["display_name"] == "simple_my_d_t__1 with it_s"


def test_the_longest_names_fit_into_a_job(tmp_path: Path) -> None:
    dataset = tmp_path / ("d" * 255)
    dataset.write_bytes(SAMPLE_DATASETS["sample"].read_bytes())
    sent = _sent(dataset=dataset)
    assert (len(sent.job["experiment_name"]), len(sent.job["display_name"])) == (255, 256)


def test_an_empty_text_is_refused_since_the_service_takes_it_for_none() -> None:
    with pytest.raises(ConfigError, match="response_key is empty"):
        _sent(response_key="")


def test_neither_recordings_nor_keys_nor_a_place_on_this_machine_are_sent(tmp_path: Path) -> None:
    text = json.dumps([_sent().job, [asset.document for asset in _sent().assets]])
    assert "cassette" not in json.dumps(_sent().job)
    assert str(Path.home()) not in text
    assert str(bundled_programs()["zero_shot"].parent) not in text


def test_an_environment_that_exists_is_used_and_none_is_made() -> None:
    sent = _sent(environment="ours:3")
    assert sent.uses == ("azureml:ours:3",)
    assert {asset.kind for asset in sent.assets} == {"data", "component"}
    assert _asset(sent, "jsonl_guidance_aoai").document["environment"] == "azureml:ours:3"


def test_published_components_are_used_and_none_is_made() -> None:
    reference = "azureml://registries/ours/components/jsonl_guidance_aoai/versions/1.2.0"
    sent = _sent(components=reference)
    assert {asset.kind for asset in sent.assets} == {"data"}
    assert [node["component"] for node in sent.job["jobs"].values()] == list(sent.uses)
    assert reference in sent.uses


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"environment": "ours@latest"}, "name one version"),
        ({"environment": "ours"}, "name one version"),
        ({"components": "azureml://registries/ours"}, "mmlu-pipe publish"),
        ({"environment": "ours:3", "extra_package": ("more==1",)}, "leave out --environment"),
        (
            {"components": "azureml://registries/r/components/c/versions/1", "extra_package": ("more==1",)},
            "leave out --environment and --extra-package",
        ),
        ({"identity": "me"}, "client id of a user-assigned identity"),
    ],
)
def test_a_vague_or_contradictory_reference_is_refused(options: JsonObject, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _sent(**options)


def test_a_dataset_that_came_from_the_workspace_is_named_and_not_registered_again(tmp_path: Path) -> None:
    path = tmp_path / "assets" / "mmlu_astronomy_test" / "7" / "mmlu_astronomy_test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(SAMPLE_DATASETS["sample"].read_bytes())
    sent = _sent(dataset=path, data_dir=tmp_path)
    assert sent.uses == ("azureml:mmlu_astronomy_test:7",)
    assert _ask(sent)["inputs"]["input_dataset"]["path"] == "azureml:mmlu_astronomy_test:7"
    program, dataset = sent.files
    assert (dataset.path, dataset.sha256, dataset.reference) == (path, sha256_file(path), sent.uses[0])
    assert program.reference == _asset(sent, "guidance_program_zero_shot").reference
    assert sent.experiment == "simple_mmlu_astronomy_test"


def test_no_two_jobs_have_one_name() -> None:
    assert len({new_job_name() for _ in range(200)}) == 200

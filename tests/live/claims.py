"""What only the service can prove; each claim has a live test of its name, and what rehearses it until then."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLAIMS", "Claim"]

_AZUREML = "tests/backends/azureml/"
_ENDPOINT = "tests/endpoint/"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        id: its live test is `test_<id>`.
        text: what holds, in words.
        rehearsed_by: ids of the tests that show it without the service; empty where only the service can.
    """

    id: str
    text: str
    rehearsed_by: tuple[str, ...]


CLAIMS = (
    # The endpoint: tests/live/test_endpoint.py
    Claim(
        "entra_token",
        "an Entra token of `az login` is accepted",
        (f"{_ENDPOINT}test_credentials.py::test_the_bearer_token_is_on_the_wire_and_nothing_else",),
    ),
    Claim(
        "api_key",
        "an API key is accepted",
        (f"{_ENDPOINT}test_credentials.py::test_the_key_is_on_the_wire_and_nothing_else",),
    ),
    Claim(
        "select_json_schema",
        "`select` by `json_schema`",
        (f"{_ENDPOINT}test_select.py::test_json_schema_on_the_wire",),
    ),
    Claim("select_logprob", "`select` by `logprob`", (f"{_ENDPOINT}test_select.py::test_logprob_on_the_wire",)),
    Claim("select_text", "`select` by `text`", (f"{_ENDPOINT}test_select.py::test_text_on_the_wire",)),
    Claim(
        "streaming",
        "`--stream`: server-sent events, with usage",
        (f"{_ENDPOINT}test_chat.py::test_json_and_stream_are_one_request",),
    ),
    Claim(
        "v1_address",
        "the `/openai/v1/` address style",
        (f"{_ENDPOINT}test_client.py::test_url_and_model_are_of_the_style",),
    ),
    Claim("served_model", "the served model is of the family that `aoai_model` names", ()),
    Claim(
        "capabilities",
        "the table of capabilities is right for the deployment: nothing had to be corrected",
        (f"{_ENDPOINT}test_capabilities.py::test_a_deployment_accepts_what_its_sources_say",),
    ),
    Claim(
        "rate_limit_headers",
        "answers carry the rate limit headers",
        (f"{_ENDPOINT}test_limiter.py::test_remaining_headers_cost_nothing",),
    ),
    Claim(
        "content_filter",
        "a prompt that the content filter blocks is recognised as that",
        (f"{_ENDPOINT}test_chat.py::test_the_categories_of_a_blocked_prompt_are_kept_in_both_spellings",),
    ),
    Claim(
        "recordings",
        "recordings of the deployment hold no names or credentials, and replay to the same bytes",
        ("tests/recording/test_leaks.py::test_a_planted_secret_is_found_where_it_is",),
    ),
    Claim("doctor_endpoint", "`doctor` finds the deployment in order", ()),
    # The workspace: tests/live/test_workspace.py
    Claim("data_asset", "a dataset is registered once, and fetched by its name", ()),
    Claim(
        "image_builds",
        "the environment's image builds",
        (),
    ),
    Claim("job_completes", "a submitted job completes, both steps", ()),
    Claim(
        "same_shape",
        "its outputs have the files, lines and keys of a local run",
        (),
    ),
    Claim(
        "managed_identity",
        "a step asks with the managed identity of its cluster",
        (
            "tests/endpoint/test_credentials_of_a_job.py::"
            "test_a_managed_identity_answers_in_a_process_with_nothing_else",
        ),
    ),
    Claim(
        "user_identity",
        "a step asks on behalf of the user who submitted it",
        ("tests/endpoint/test_credentials_of_a_job.py::test_the_submitting_user_asks_on_whose_behalf_the_step_runs",),
    ),
    Claim(
        "client_id",
        "a step asks with a user-assigned identity, by client id",
        ("tests/endpoint/test_credentials_of_a_job.py::test_the_client_id_is_the_named_one_or_the_jobs_or_none",),
    ),
    Claim(
        "serverless",
        "both steps run on serverless compute",
        (f"{_AZUREML}test_render.py::test_a_serverless_step_takes_the_default_and_the_other_its_own",),
    ),
    Claim("second_submission", "an unchanged second submission registers and uploads nothing", ()),
    Claim(
        "asked_again",
        "its first step is not reused: the deployment is asked again",
        (f"{_AZUREML}test_render.py::test_the_step_that_asks_is_not_reused_and_the_one_that_scores_is",),
    ),
    Claim(
        "one_new_version",
        "a changed program is one new version, and nothing else is",
        (f"{_AZUREML}test_render.py::test_equal_content_has_one_version_and_other_content_another",),
    ),
    Claim("first_version_again", "the first program again is its first version again", ()),
    Claim(
        "epoch_versions",
        "`--version-scheme epoch` gives versions of the second",
        (f"{_AZUREML}test_render.py::test_the_epoch_scheme_gives_every_submission_versions_of_its_second",),
    ),
    Claim(
        "cancel",
        "`cancel` ends a job",
        (f"{_AZUREML}test_jobs_cli.py::test_cancel_ends_a_running_job_and_says_how_to_go_on",),
    ),
    Claim(
        "from_elsewhere",
        "`status` and `fetch` work by the job's name alone",
        (f"{_AZUREML}test_run.py::test_a_job_from_another_machine_gets_a_folder_with_the_options_and_inputs_it_tells",),
    ),
    Claim(
        "resume_from",
        "`--resume-from` asks no finished line again",
        (f"{_AZUREML}test_render.py::test_a_job_goes_on_from_the_checkpoints_of_an_earlier_one",),
    ),
    Claim(
        "failed_step",
        "a failed step's own error is shown",
        (f"{_AZUREML}test_run.py::test_a_step_that_exits_with_3_is_named_with_the_last_words_of_its_log",),
    ),
    Claim("plan_asks_the_workspace", "`plan --check-workspace` tells what is registered", ()),
    Claim(
        "own_environment",
        "`--environment NAME:VERSION` uses one that exists",
        (f"{_AZUREML}test_render.py::test_an_environment_that_exists_is_used_and_none_is_made",),
    ),
    Claim("extra_package", "`--extra-package` is there in the job", ()),
    Claim(
        "registry",
        "`publish` puts the components into a registry, and `--components` runs them from there",
        (f"{_AZUREML}test_render.py::test_published_components_are_used_and_none_is_made",),
    ),
    Claim("doctor_workspace", "`doctor` finds the workspace in order", ()),
)

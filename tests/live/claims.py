"""What only the service can prove; each claim has a live test of its name, and what rehearses it until then."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLAIMS", "Claim"]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        id: its live test is `test_<id>`.
        text: what holds, in words.
        rehearsed_by: ids of tests that show it without the service, under `tests/`; empty where none can.
        on_the_twin: whether its live test shows it against the twin as well. Some only pass there: the twin builds no
            image, and a loopback endpoint has the very table of capabilities that is in question.
    """

    id: str
    text: str
    rehearsed_by: tuple[str, ...] = ()
    on_the_twin: bool = True

    @property
    def rehearsed(self) -> bool:
        """Whether anything shows it without the service."""
        return self.on_the_twin or bool(self.rehearsed_by)


_CREDENTIALS = "endpoint/test_credentials.py::test_the_"
_OF_A_JOB = "endpoint/test_credentials_of_a_job.py::test_"
_CHAT = "endpoint/test_chat.py::test_"
_SELECT = "endpoint/test_select.py::test_"
_AZUREML = "backends/azureml/test_"
_REHEARSED = "rehearse/test_evidence.py::test_"

CLAIMS = (
    # The deployment: test_endpoint.py
    Claim(
        "entra_token",
        "an Entra token is accepted",
        (f"{_CREDENTIALS}bearer_token_is_on_the_wire_and_nothing_else",),
    ),
    Claim("api_key", "an API key is accepted", (f"{_CREDENTIALS}key_is_on_the_wire_and_nothing_else",)),
    Claim("select_json_schema", "`select` by `json_schema`", (f"{_SELECT}json_schema_on_the_wire",)),
    Claim("select_logprob", "`select` by `logprob`", (f"{_SELECT}logprob_on_the_wire",)),
    Claim("select_text", "`select` by `text`", (f"{_SELECT}text_on_the_wire",)),
    Claim("streaming", "`--stream`, with usage", (f"{_CHAT}json_and_stream_are_one_request",)),
    Claim(
        "v1_address",
        "the address style `/openai/v1/`",
        ("endpoint/test_client.py::test_url_and_model_are_of_the_style",),
    ),
    Claim("served_model", "the served model is the one that `aoai_model` declares", on_the_twin=False),
    Claim(
        "capabilities",
        "the table of capabilities needs no correction for the deployment",
        ("endpoint/test_capabilities.py::test_a_deployment_accepts_what_its_sources_say",),
        on_the_twin=False,
    ),
    Claim("rate_limit_headers", "answers carry the headers of rate limits", on_the_twin=False),
    Claim(
        "content_filter",
        "a prompt that the content filter blocks is counted as that",
        (f"{_CHAT}the_categories_of_a_blocked_prompt_are_kept_in_both_spellings",),
    ),
    Claim(
        "recordings",
        "recordings hold no host and no deployment, and replay to the same bytes",
        ("recording/test_bundled.py::test_nothing_private_is_in_them",),
    ),
    Claim(
        "doctor_endpoint",
        "`doctor` finds a deployment in order",
        ("doctor/test_deployment.py::test_a_deployment_in_order_is_asked_twice_for_a_few_tokens",),
    ),
    # The workspace: test_workspace.py
    Claim(
        "data_asset",
        "a dataset is registered once, and fetched by its name",
        (f"{_AZUREML}datasets.py::test_a_registered_dataset_comes_back_whatever_the_datastore_asks_for",),
    ),
    Claim("image_builds", "the image of the environment builds", on_the_twin=False),
    Claim(
        "job_completes",
        "a submitted job completes, both steps",
        (f"{_REHEARSED}everything_holds_and_comes_back_byte_equal",),
    ),
    Claim(
        "same_shape",
        "its outputs have the files, lines and keys of a local run",
        (f"{_REHEARSED}everything_holds_and_comes_back_byte_equal",),
    ),
    Claim(
        "managed_identity",
        "a step asks as the identity of its cluster",
        (f"{_OF_A_JOB}a_managed_identity_answers_in_a_process_with_nothing_else",),
    ),
    Claim(
        "user_identity",
        "a step asks on behalf of the user who submitted it",
        (f"{_OF_A_JOB}the_submitting_user_asks_on_whose_behalf_the_step_runs",),
    ),
    Claim(
        "client_id",
        "a step asks as a user-assigned identity",
        (f"{_OF_A_JOB}the_client_id_is_the_named_one_or_the_jobs_or_none",),
    ),
    Claim(
        "serverless",
        "both steps run on serverless compute",
        (f"{_AZUREML}render.py::test_a_serverless_step_takes_the_default_and_the_other_its_own",),
    ),
    Claim(
        "second_submission",
        "an unchanged second submission registers and uploads nothing",
        (f"{_AZUREML}register.py::test_an_unchanged_second_submission_writes_nothing_but_its_job",),
    ),
    Claim(
        "asked_again",
        "its first step is not reused: the deployment is asked again",
        (f"{_AZUREML}render.py::test_the_step_that_asks_is_not_reused_and_the_one_that_scores_is",),
        on_the_twin=False,
    ),
    Claim(
        "one_new_version",
        "a changed program is one new version, and nothing else is",
        (f"{_AZUREML}render.py::test_equal_content_has_one_version_and_other_content_another",),
    ),
    Claim(
        "first_version_again",
        "the first program again is its first version again",
        (f"{_AZUREML}register.py::test_a_then_b_then_a_again_registers_each_once",),
    ),
    Claim(
        "epoch_versions",
        "`--version-scheme epoch` gives versions of the second",
        (f"{_AZUREML}render.py::test_the_epoch_scheme_gives_every_submission_versions_of_its_second",),
    ),
    Claim(
        "cancel",
        "`cancel` ends a job",
        (f"{_AZUREML}jobs_cli.py::test_cancel_ends_a_running_job_and_says_how_to_go_on",),
    ),
    Claim(
        "from_elsewhere",
        "`status` and `fetch` need no more than the job's name",
        (f"{_AZUREML}run.py::test_a_job_from_another_machine_gets_a_folder_with_the_options_and_inputs_it_tells",),
    ),
    Claim(
        "resume_from",
        "`--resume-from` asks no finished line again",
        (f"{_AZUREML}render.py::test_a_job_goes_on_from_the_checkpoints_of_an_earlier_one",),
    ),
    Claim(
        "failed_step",
        "a failed step's own error is shown",
        (f"{_AZUREML}run.py::test_a_step_that_exits_with_3_is_named_with_the_last_words_of_its_log",),
    ),
    Claim("plan_asks_the_workspace", "`plan --check-workspace` tells what is registered"),
    Claim(
        "own_environment",
        "`--environment` uses one that exists",
        (f"{_AZUREML}render.py::test_an_environment_that_exists_is_used_and_none_is_made",),
    ),
    Claim(
        "extra_package",
        "`--extra-package` is installed in the image",
        (f"{_AZUREML}environment.py::test_further_packages_come_after_the_pins",),
        on_the_twin=False,
    ),
    Claim(
        "registry",
        "`publish` fills a registry, and `--components` runs from it",
        (f"{_AZUREML}publish.py::test_what_is_published_once_stays_and_says_how_to_use_it",),
    ),
    Claim(
        "doctor_workspace",
        "`doctor` finds a workspace in order",
        ("doctor/test_workspace.py::test_a_workspace_in_order_passes_and_nothing_is_left_in_it",),
    ),
)

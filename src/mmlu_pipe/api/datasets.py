"""Making datasets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmlu_pipe.config import VERSION_SCHEMES, one_of

if TYPE_CHECKING:
    from mmlu_pipe.dataset.mmlu import CreatedDataset

__all__ = ["create_dataset"]

PathLike = str | Path


def create_dataset(
    mmlu_dataset: str,
    *,
    split: str = "validation",
    source: str | None = None,
    revision: str | None = None,
    output_dir: PathLike = "data",
    overwrite: bool = False,
    workspace_config: PathLike | None = None,
    version_scheme: str = "content",
) -> CreatedDataset:
    """Fetch a subject of MMLU (or `all`) and write it as `mmlu_<SUBJECT>_<SPLIT>.jsonl` into the data folder.

    Args:
        mmlu_dataset: subject, or `all`.
        split: `test`, `validation` or `dev`.
        source: hub id, folder of the original CSV files, or JSONL file; None is the pinned default.
        revision: revision of a hub dataset.
        output_dir: the data folder.
        overwrite: replace an existing file that differs.
        workspace_config: AzureML `config.json`; with it the file is also registered as a data asset of that name.
        version_scheme: version of the data asset: of its `content`, or the `epoch` second.

    Raises:
        MmluPipeError: the source cannot be read, or holds a bad row.
    """
    from mmlu_pipe.dataset import mmlu

    one_of("version-scheme", version_scheme, VERSION_SCHEMES)
    workspace = None
    if workspace_config is not None:
        from mmlu_pipe.backends.azureml.workspace import load_workspace

        workspace = load_workspace(Path(workspace_config))  # a slip in it is told before anything is fetched
    found = mmlu.create_dataset(
        mmlu_dataset=mmlu_dataset,
        split=split,
        source=source or mmlu.DEFAULT_SOURCE,
        revision=revision,
        output_dir=Path(output_dir),
        overwrite=overwrite,
    )
    if workspace is None:
        return found

    from mmlu_pipe.backends.azureml.client import connect
    from mmlu_pipe.backends.azureml.datasets import register_dataset

    with connect(workspace) as client:
        reference, _ = register_dataset(client, found.path, version_scheme=version_scheme)
    return replace(found, asset=reference)

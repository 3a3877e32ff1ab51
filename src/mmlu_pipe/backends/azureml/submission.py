"""Everything that is sent for one run, as plain data: what `plan` shows is what `run` sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmlu_pipe.records import JsonObject

__all__ = ["DATASTORE", "Asset", "AssetKind", "BoundFile", "Submission", "output_uri"]

AssetKind = Literal["data", "environment", "component"]

DATASTORE = "workspaceblobstore"
"""The default datastore that every workspace has."""


@dataclass(frozen=True)
class Asset:
    """A version of something that must be in the workspace before a job can use it.

    Attributes:
        kind: what it is.
        name: its name.
        version: its version; by default the beginning of `sha256`, so that equal content has one version.
        sha256: hex SHA-256 of its content: file, or document and code.
        document: the YAML document that the SDK loads; paths in it are relative to the folder it is written to.
        source: the file that goes up with it (data).
        code: whether the package goes up with it, as the folder `code` (components).
    """

    kind: AssetKind
    name: str
    version: str
    sha256: str
    document: JsonObject
    source: Path | None = None
    code: bool = False

    @property
    def reference(self) -> str:
        """How a job names exactly this version."""
        return f"azureml:{self.name}:{self.version}"


@dataclass(frozen=True)
class BoundFile:
    """A file of this machine that the job reads as a data asset.

    Attributes:
        path: the file.
        sha256: hex SHA-256 of what is to be read.
        reference: how the job names the asset.
    """

    path: Path
    sha256: str
    reference: str


@dataclass(frozen=True)
class Submission:
    """One job and all it needs.

    Attributes:
        job_name: the job's name, chosen here, since the places of its outputs hold it.
        experiment: the experiment that it joins.
        assets: what is created where it is not there yet, in this order.
        uses: references of what must be there and is never created: `azureml:NAME:VERSION`, or a registry's.
        computes: names of the clusters it needs; `serverless` is not among them.
        job: the YAML document of the pipeline job.
        outputs: port → where the job leaves it, `azureml://datastores/…`.
        files: the dataset and the program.
    """

    job_name: str
    experiment: str
    assets: tuple[Asset, ...]
    uses: tuple[str, ...]
    computes: tuple[str, ...]
    job: JsonObject
    outputs: Mapping[str, str]
    files: tuple[BoundFile, ...] = ()


def output_uri(job_name: str, port: str, file_name: str | None) -> str:
    """Where a job leaves an output; without a file name it is a folder."""
    return f"azureml://datastores/{DATASTORE}/paths/mmlu_pipe/{job_name}/{port}/{file_name or ''}"

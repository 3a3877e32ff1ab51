"""Rehearsing a submission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_pipe.api.running import PathLike, config_of

if TYPE_CHECKING:
    from mmlu_pipe.proving.result import Rehearsal
    from mmlu_pipe.rehearsal.workspace import CredentialKind

__all__ = ["rehearse"]


def rehearse(*, credential_kind: CredentialKind = "Sas", keep: PathLike | None = None, **options: Any) -> Rehearsal:
    """Rehearse the submission of a run on this machine, without an account.

    Args:
        credential_kind: how the datastores let clients in.
        keep: new or empty folder in which everything is kept.
        **options: those of `run`.

    Raises:
        MmluPipeError: the options are refused, or a part is missing.
    """
    from mmlu_pipe.proving.story import rehearse as rehearse_now

    return rehearse_now(config_of(**options), credential_kind=credential_kind, keep=Path(keep) if keep else None)

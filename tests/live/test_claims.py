"""Claims, live tests, evidence and the README's table belong together."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.live.claims import CLAIMS
from tests.live.conftest import LIVE_MODULES
from tests.live.evidence import EVIDENCE, Proof, note, read
from tests.live.table import shown, table

pytestmark = pytest.mark.docs

README = (ROOT / "README.md").read_text(encoding="utf-8")


def functions_in(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_claim_has_one_live_test_and_no_live_test_is_without_a_claim() -> None:
    live = [
        name
        for module in LIVE_MODULES
        for name in functions_in(Path(__file__).with_name(module))
        if name[:5] == "test_"
    ]
    assert sorted(live) == sorted(f"test_{claim.id}" for claim in CLAIMS)


def test_what_rehearses_a_claim_exists() -> None:
    for test in {test for claim in CLAIMS for test in claim.rehearsed_by}:
        path, _, name = test.partition("::")
        assert name in functions_in(ROOT / "tests" / path), test


def test_the_table_of_the_readme_is_the_generated_one() -> None:
    assert shown(README) == table(read())


def test_without_evidence_the_table_says_none_yet() -> None:
    told = table({})
    assert told.startswith("Verified on Azure: **none yet**")
    assert told.count("| rehearsed only |") + told.count("| not shown yet |") == len(CLAIMS)


def test_a_claim_that_failed_on_azure_does_not_count_as_verified() -> None:
    proofs = {claim.id: Proof(passed, "2027-01-02", {}) for claim, passed in zip(CLAIMS, (True, False), strict=False)}
    told = table(proofs)
    assert told.startswith("Verified on Azure: **1**, of")
    assert "| **failed on Azure**, 2027-01-02 |" in told


def test_a_later_attempt_replaces_the_earlier_one_and_leaves_the_other_claims(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    note({"cancel": True, "registry": False}, path)
    note({"registry": True}, path)
    assert {claim: proof.passed for claim, proof in read(path).items()} == {"cancel": True, "registry": True}


def test_the_evidence_names_nobody_and_no_place(tmp_path: Path) -> None:
    note({claim.id: True for claim in CLAIMS}, tmp_path / "evidence.json")
    for path in filter(Path.is_file, (EVIDENCE, tmp_path / "evidence.json")):
        for claim, told in json.loads(path.read_text(encoding="utf-8")).items():
            assert claim in {claim.id for claim in CLAIMS}
            assert set(told) == {field.name for field in dataclasses.fields(Proof)}
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["date"])
            assert all(re.fullmatch(r"[\d.]+\w*", version) for version in told["versions"].values())

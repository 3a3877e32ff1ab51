import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest

import mmlu_pipe
from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.reporting.html import write_report
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "run"
    mmlu_pipe.run(output_dir=folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def rewrite(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_report_is_one_small_file_that_is_the_same_each_time(folder):
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert len(first) < 3_000_000
    assert (folder / "report.html").is_file()
    assert not [path.name for path in folder.iterdir() if path.name.endswith(".new")]


def test_a_report_changes_nothing_of_the_run(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "report.html"}
    write_report(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "report.html"} == before
    mmlu_pipe.run(output_dir=folder)


def test_a_report_names_no_address_to_load_from_and_lets_only_its_own_script_run(folder):
    page = write_report(folder).read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]*\s(style|on\w+)=", page)


def test_a_folder_without_a_completed_run_is_refused(folder, tmp_path):
    with pytest.raises(RunFolderError, match="name the folder of a completed run"):
        write_report(tmp_path / "none")
    rewrite(folder / "manifest.json", lambda value: value.update(status="failed"))
    with pytest.raises(RunFolderError, match="has not completed"):
        write_report(folder)


def test_files_that_do_not_fit_together_are_refused_and_an_earlier_report_stays(folder):
    before = write_report(folder).read_bytes()
    lines = (folder / "output.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "output.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(RunFolderError, match="restore the files"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_a_report_that_cannot_be_written_says_where(folder):
    (folder / "report.html").unlink(missing_ok=True)
    (folder / "report.html").mkdir()
    with pytest.raises(RunFolderError, match=re.escape(str(folder / "report.html"))):
        write_report(folder)
    assert not (folder / ".report.html.new").exists()


def test_a_score_without_calibration_and_positions_has_a_report_without_them(folder):
    rewrite(folder / "score.json", lambda value: value.update(calibration=None, position_bias=None))
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'id="answers"' not in page
    assert 'href="#answers"' not in page


def test_many_subjects_outside_of_mmlu_are_told_in_a_table_only(folder):
    def change(value):
        part = value["by_subject"]["anatomy"]
        value["by_subject"] = {f"subject {number}": part for number in range(500)}

    rewrite(folder / "score.json", change)
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.count("<bdi>subject ") == 500
    assert "Accuracy of each subject" not in page


def test_the_command_prints_where_the_report_is(folder, mmlu_pipe_command):
    done = mmlu_pipe_command("report", folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder / "report.html"))
    done = mmlu_pipe_command("report", folder.parent)
    assert done.returncode == RunFolderError.exit_code
    assert "Traceback" not in done.stderr


def test_charts_and_templates_are_loaded_for_a_report_only():
    code = "import sys, mmlu_pipe.api, mmlu_pipe.cli.report; print({'jinja2', 'vl_convert'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

import base64
import hashlib
import json
import re
import shutil

import pytest

import mmlu_pipe
from mmlu_pipe.api.scoring import compare
from mmlu_pipe.errors import ConfigError, RunFolderError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs of the bundled sample, of which one has other answers on some lines."""
    folder = tmp_path_factory.mktemp("runs")
    mmlu_pipe.run(output_dir=folder / "a")
    shutil.copytree(folder / "a", folder / "b")
    change_lines(
        folder / "b", lambda place, line: line | {"zero_shot_choice": line["correct_answer"] ^ (place % 3 == 0)}
    )
    return folder


@pytest.fixture
def runs(made, tmp_path):
    return [shutil.copytree(made / name, tmp_path / name) for name in ("a", "b")]


def change_lines(folder, change):
    path = folder / "output.jsonl"
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    path.write_text("".join(json.dumps(change(*each)) + "\n" for each in enumerate(lines)), encoding="utf-8")


def written(runs, path, **options):
    compare(runs, html=path, **options)
    return path.read_text(encoding="utf-8")


def test_the_page_is_the_same_each_time_and_changes_nothing_of_the_runs(runs, tmp_path):
    before = {path: path.read_bytes() for run in runs for path in run.iterdir()}
    assert written(runs, tmp_path / "one.html", seed=3) == written(runs, tmp_path / "two.html", seed=3)
    assert {path: path.read_bytes() for run in runs for path in run.iterdir()} == before


def test_the_page_names_no_address_to_load_from_and_lets_only_its_own_script_run(runs, tmp_path):
    page = written(runs, tmp_path / "page.html")
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
    assert policy.startswith("default-src 'none';")
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert not re.search(r"<[^>]*\s(style|on\w+)=", page)


def test_a_file_that_is_there_is_left_as_it_is(runs, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"page\.html: exists already; give --html another name"):
        compare(runs, html=path)
    assert path.read_text(encoding="utf-8") == "mine"
    with pytest.raises(RunFolderError, match=r"page\.html: cannot be written"):
        compare(runs, html=tmp_path / "none" / "page.html")


def test_runs_that_never_differ_and_whose_score_is_an_older_one_have_a_page(runs, tmp_path):
    (runs[0] / "calls.jsonl").unlink()
    (runs[0] / "score.json").write_text(
        '{"response_key": "zero_shot_choice", "correct_key": "correct_answer"}', "utf-8"
    )
    page = written([runs[0], runs[0]], tmp_path / "page.html")
    assert "The runs differ on no line" in page
    assert "Difference of each subject" not in page
    assert 'id="chunk-0"' not in page


def test_names_of_subjects_and_folders_are_text_in_the_page_and_in_its_charts(runs, tmp_path):
    name = "<b>\x00&\u202e"
    for run in runs:
        change_lines(run, lambda _place, line: line | {"subject": name})
    other = runs[1].rename(tmp_path / "<i>b")
    page = written([runs[0], other], tmp_path / "page.html")
    assert page.count("&lt;b&gt;") >= 2
    assert page.count("&lt;i&gt;b") >= 3
    assert "<b>\x00" not in page
    assert "<i>" not in page


def test_the_command_prints_the_page_with_the_comparison_and_json_stays_json(runs, tmp_path, mmlu_pipe_command):
    done = mmlu_pipe_command("compare", *runs, "--html", "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("page          page.html\n")
    assert (tmp_path / "page.html").is_file()
    done = mmlu_pipe_command("compare", *runs, "--html", "other.html", "--json")
    assert json.loads(done.stdout)["n"] == 114
    assert (tmp_path / "other.html").read_bytes() == (tmp_path / "page.html").read_bytes()

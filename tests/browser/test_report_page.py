import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe

import mmlu_pipe
from mmlu_pipe.reporting.html import write_report
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt

PHONE = {"viewport": {"width": 390, "height": 800}}
THROUGH = "<script>alert(1)</script></script><!--<img src=x onerror=alert(2)>&lt;"
HOSTILE = {
    "script": THROUGH,
    "rtl": "\u202eמה השעה \u2067عربي؟",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301",
    "surrogate": "lone \ud800 half",
    "control": "nul \x00 bell \x07 \x1b[31m",
    "template": "{{ 7 * 7 }} {% raw %} ${alert(3)}",
    "huge": "wide" * 60_000,
}
PROGRAM = """
import json
import guidance
from guidance import gen, user, assistant

def guidance_generation(lm, input):
    with user():
        lm += input["question"]
    with assistant():
        lm += gen(name="said")
    return {"zero_shot_choice": input["correct_answer"] if "right" in input["question"] else 0, "said": lm["said"]}
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "run"
    mmlu_pipe.run(output_dir=folder)
    write_report(folder)
    return folder


@pytest.fixture
def evaluate(tmp_path, monkeypatch, write_config):
    """A run on lines of one's own, whose answers a server gives."""

    def evaluate(lines, answer, **options):
        dataset, program, folder = tmp_path / "lines.jsonl", tmp_path / "program.py", tmp_path / "run"
        dataset.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        program.write_text(PROGRAM, encoding="utf-8")
        with AoaiServer(answer=answer) as server:
            config = write_config(server.endpoint)
            mmlu_pipe.run(dataset, program, other_config=config, output_dir=folder, **options)
        write_report(folder)
        return folder

    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
    return evaluate


def question(text, **more):
    return {"subject": "anatomy", "question": text, "choices": ["a", "b", "c", "d"], "correct_answer": 1} | more


def numbers(scope):
    """Every number that a part of the page shows, as exactly as it holds it."""
    return scope.locator("data").evaluate_all("found => found.map((each) => Number(each.value))")


def table(scope):
    """Heading → the numbers of its row."""
    values = "[...row.querySelectorAll('data')].map((each) => Number(each.value))"
    read = f"rows => rows.map((row) => [row.cells[0].textContent, {values}])"
    return dict(scope.locator("tbody tr").evaluate_all(read))


def shown_rows(page):
    return page.locator("#rows > li").count()


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_numbers_of_the_page_are_those_of_the_score(sample, show):
    score = json.loads((sample / "score.json").read_text(encoding="utf-8"))
    page = show(sample)

    def row(part):
        return [part[name] for name in ("count", "n_correct", "accuracy")] + [*part["ci95"].values()]

    assert numbers(page.locator("#accuracy")) == [score["accuracy"]]
    assert numbers(page.locator("#ci95")) == [*score["ci95"].values()]
    assert table(page.locator("#categories")) == {name: row(part) for name, part in score["by_category"].items()}
    subjects = {name: [*row(part), part["unanswered"], part["failed"]] for name, part in score["by_subject"].items()}
    assert table(page.locator("#subjects")) == subjects
    bias = score["position_bias"]
    pairs = zip(bias["chosen"], bias["correct"], strict=True)
    assert numbers(page.locator("#positions table")) == [count for pair in pairs for count in pair]
    calibration = score["calibration"]
    names = ("expected_calibration_error", "brier", "mass_outside", "lines")
    assert numbers(page.locator("#calibration > .figures")) == [calibration[name] for name in names]
    bins = [[*row(each), each["confidence"]] for each in calibration["bins"] if each["count"]]
    assert numbers(page.locator("#calibration table")) == [number for each in bins for number in each]


def test_the_wrong_lines_are_found_by_outcome_subject_and_text(sample, show):
    score = json.loads((sample / "score.json").read_text(encoding="utf-8"))
    wrong = score["count"] - score["n_correct"]
    page = show(sample)
    page.get_by_role("radio", name="wrong").check(force=True)
    assert page.locator("#found").inner_text() == f"{wrong} of {score['count']} lines"
    assert set(page.locator("#rows .outcome").all_inner_texts()) == {"✗ wrong"}
    page.locator("#subject").select_option(label="anatomy")
    assert shown_rows(page) == 2 - score["by_subject"]["anatomy"]["n_correct"]
    page.get_by_role("radio", name="all").check(force=True)
    page.get_by_label("Text").fill("PATELLA")
    assert page.locator("#rows .question").all_inner_texts() == [
        "With which bone does the patella share a joint surface?"
    ]
    page.get_by_label("Text").fill("no such words")
    assert shown_rows(page) == 0


def test_a_line_opens_to_its_messages_its_answer_and_its_distribution(sample, show):
    call = json.loads((sample / "calls.jsonl").read_text(encoding="utf-8").splitlines()[0])
    page = show(sample)
    page.locator("#rows summary").first.click()
    opened = page.locator("#rows .opened")
    opened.wait_for()
    sent = [message["content"] for message in call["messages"]]
    assert opened.locator("pre").all_text_contents()[:3] == [*sent, call["text"]]
    assert opened.locator("code").all_inner_texts() == list(call["distribution"])
    shares = [f"{100 * value:.1f} %" for value in call["distribution"].values()]
    assert opened.locator("td:nth-child(3)").all_inner_texts() == shares
    assert opened.locator(".choices li.right .told").inner_text() == "chosen, correct"


def test_every_page_of_lines_and_every_line_is_reached_by_keyboard(sample, show):
    page = show(sample)
    page.get_by_label("Text").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#line-1 .opened").wait_for()
    page.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    assert page.locator("#page").inner_text() == "Page 2 of 3"
    page.keyboard.press("Space")
    page.locator("#line-51 .opened").wait_for()


def test_an_address_can_name_a_line(sample, show):
    page = show(sample, fragment="#line-113")
    page.locator("#line-113 .opened").wait_for()
    assert page.locator("#page").inner_text() == "Page 3 of 3"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(sample, show, scheme):
    page = show(sample, color_scheme=scheme)
    page.locator("#rows summary").first.click()
    page.locator("#rows .opened").wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert violations(page) == []


def test_colours_follow_the_system_until_others_are_chosen(sample, show):
    page = show(sample, color_scheme="dark")

    def brightness():
        found = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", found)[:3]))

    assert brightness() < 200
    page.get_by_label("Colours").select_option("light")
    assert brightness() > 600
    page.reload()
    assert brightness() > 600


def test_charts_have_the_colours_of_the_scheme(sample, show):
    text = "getComputedStyle(document.querySelector('#subjects svg text')).fill"
    assert show(sample, color_scheme="light").evaluate(text) != show(sample, color_scheme="dark").evaluate(text)


def test_a_phone_shows_it_without_sideways_scrolling(sample, show):
    page = show(sample, **PHONE)
    page.locator("#rows summary").first.click()
    page.locator("#rows .opened").wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert fits(page)
    assert violations(page) == []


def test_on_paper_it_is_light_and_has_no_controls(sample, show):
    page = show(sample, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#filters").is_visible()
    assert page.locator("#rows > li").first.is_visible()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_model_or_a_dataset_says_is_shown_as_text(evaluate, show, text):
    sent = text.replace("\ud800", "")[:2000]  # what is no Unicode cannot be sent, but it can be answered
    line = question(f"right {sent}", subject=text[:200], choices=[text[:300], "b"], note=text)
    folder = evaluate([line], lambda _body, _count: text)
    page = show(folder, **PHONE)
    page.locator("#rows summary").first.click()
    opened = page.locator("#rows .opened")
    opened.wait_for()
    said = text if len(text) < 20_000 else text[:20_000]
    shown = opened.locator(".assistant pre").text_content()
    assert shown.startswith(said.replace("\ud800", "\ufffd"))
    assert page.locator("#title").inner_text() == "lines with program"
    assert page.locator("script").count() == 3
    assert page.locator("main img").count() == 0
    assert fits(page)


def test_failed_lines_are_told_by_kind_and_lead_to_their_lines(evaluate, show):
    def answer(body, _count):
        text = body["messages"][-1]["content"]
        return filtered_prompt() if "blocked" in text else Reply("x", finish_reason="length") if "long" in text else "x"

    texts = ["right one", "blocked one", "blocked two", "long one", "other"]
    folder = evaluate([question(text) for text in texts], answer, max_errors=10, on_content_filter="count")
    score = json.loads((folder / "score.json").read_text(encoding="utf-8"))
    page = show(folder)
    table = page.locator("#failures table")
    assert numbers(table) == list(score["failed_by_kind"].values())
    assert sum(numbers(table)) == 3
    table.get_by_role("link", name="content_filter").click()
    assert page.locator("#rows .question").all_inner_texts() == ["blocked one", "blocked two"]
    page.locator("#rows summary").first.click()
    page.locator("#rows .error").first.wait_for()
    assert "content" in page.locator("#rows .error pre").first.inner_text()
    assert violations(page) == []


def test_a_run_in_which_nothing_was_answered_has_a_page(evaluate, show):
    folder = evaluate([question("one")], lambda _body, _count: filtered_prompt(), max_errors="100%")
    page = show(folder)
    assert numbers(page.locator("#accuracy")) == [0]
    assert page.locator("#answers").count() == 0
    assert shown_rows(page) == 1


def test_a_run_without_calls_has_a_page(evaluate, show):
    folder = evaluate([question("right one"), question("two")], lambda _body, _count: "x")
    (folder / "calls.jsonl").unlink()
    write_report(folder)
    page = show(folder)
    assert page.locator("#calls").count() == 0
    page.locator("#rows summary").first.click()
    page.get_by_text("No model call of this line is in the run folder.").wait_for()

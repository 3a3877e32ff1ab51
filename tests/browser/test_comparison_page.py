import json
from types import SimpleNamespace

import pytest

import mmlu_pipe
from mmlu_pipe.api.scoring import compare
from tests.browser.test_report_page import HOSTILE, PHONE, THROUGH, fits, numbers, question, table, violations
from tests.servers.aoai import AoaiServer, Reply, filtered_prompt

COUNT = 60
SUBJECTS = ("anatomy", "astronomy", "virology", THROUGH)
TEXTS = dict(enumerate(HOSTILE.values(), start=40))
PROGRAM = """
from guidance import gen, system, user, assistant

def guidance_generation(lm, input):
    with system():
        lm += "Pick a number."
    with user():
        lm += input["question"]
    with assistant():
        lm += gen(name="said")
    return {"zero_shot_choice": int(lm["said"][0])}
"""


def right_on(numbers, **reply):
    """A model that is right on these lines, counted from 0, and says what is hostile on some."""

    def answer(body, _count):
        number = int(body["messages"][-1]["content"].rpartition(" ")[2])
        if number == 59:
            return filtered_prompt()
        return Reply(f"{(number + (number not in numbers)) % 4} says {TEXTS.get(number, 'nothing')}", **reply)

    return answer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs, the third on fewer lines; a page of the first two, and one of all."""
    folder = tmp_path_factory.mktemp("compared")
    texts = [f"Question about {'frogs' if number == 50 else 'toads'}: {number}" for number in range(COUNT)]
    lines = [
        question(text, subject=SUBJECTS[number % 4], correct_answer=number % 4) for number, text in enumerate(texts)
    ]
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    config = {
        "aoai_deployment": "dep",
        "aoai_model": "gpt-4o",
        "aoai_api_version": "2024-10-21",
        "aoai_compute": "cpu",
        "general_compute": "cpu",
    }
    models = {
        "base": (right_on(range(5, 40), served_model="old"), {}),
        "better": (right_on(range(10, 55), served_model="new"), {}),
        "best": (right_on(range(COUNT), served_model="newest"), {"limit": 30, "seed": 7}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_OPENAI_API_KEY", "test-key")
        for name, (answer, options) in models.items():
            with AoaiServer(answer=answer) as server:
                path = folder / f"{name}.json"
                path.write_text(json.dumps(config | {"aoai_endpoint": server.endpoint}), encoding="utf-8")
                run = folder / name
                mmlu_pipe.run(
                    folder / "lines.jsonl", folder / "program.py", other_config=path, output_dir=run, **options
                )
    base, better, best = (folder / name for name in models)
    (two,) = compare([base, better], allow=["model"], html=folder / "two.html")
    three = compare([base, better, best], allow=["model", "settings"], html=folder / "three.html")
    return SimpleNamespace(folder=folder, two=two, three=three)


@pytest.fixture
def two(made, show):
    return lambda **context: show(made.folder, name="two.html", **context)


@pytest.fixture
def three(made, show):
    return lambda **context: show(made.folder, name="three.html", **context)


def rows(page):
    return [int(number) for number in page.locator("#rows .number").all_inner_texts()]


def opened(page, number):
    page.locator(f"#line-{number} summary").first.click()
    found = page.locator(f"#line-{number} .opened")
    found.locator(".sides").wait_for()
    return found


def ends(interval):
    return [interval.low, interval.high]


def test_the_numbers_of_the_page_are_those_of_the_comparison_and_of_the_scores(made, two):
    found, page = made.two, two()
    assert numbers(page.locator("#run-1 .accuracy")) == [found.delta]
    assert numbers(page.locator("#run-1 .ci95")) == ends(found.ci95)
    figures = [found.p_value, found.lines_for_80_percent_power, found.cells.n]
    assert numbers(page.locator("#run-1 .figures").first) == figures
    assert numbers(page.locator("#run-1 .cells")) == [*vars(found.cells).values()] == [30, 5, 15, 10]
    scores = [json.loads((made.folder / name / "score.json").read_text("utf-8")) for name in ("base", "better")]
    names = ("count", "n_correct", "accuracy")
    assert [*table(page.locator("#runs")).values()] == [
        [*(each[name] for name in names), *each["ci95"].values(), each["failed"]] for each in scores
    ]
    shown = table(page.locator("#subjects"))
    assert shown.keys() == found.by_subject.keys()
    for name, part in found.by_subject.items():
        cells, (low, high) = part.cells, shown[name][4:6]
        assert low <= cells.delta <= high
        assert shown[name] == [cells.n, cells.only_a, cells.only_b, cells.delta, low, high, part.p_value, part.p_holm]


def test_what_differs_is_told_run_by_run(two, three):
    assert two().locator("#differences td").all_inner_texts() == ["old", "new"]
    cells = three().locator("#differences td")
    assert cells.all_inner_texts() == ["old", "new", "newest", "none", "none", "seed 7"]


def test_the_lines_that_changed_are_found_by_gain_loss_subject_and_text(two):
    page = two()
    assert rows(page) == [*range(6, 11), *range(41, 56)]
    page.get_by_role("radio", name="gained 15").check(force=True)
    assert rows(page) == [*range(41, 56)]
    page.get_by_role("radio", name="lost 5").check(force=True)
    assert rows(page) == [*range(6, 11)]
    assert set(page.locator("#rows .outcome").all_inner_texts()) == {"▼ lost"}
    page.locator("#subject").select_option(label="anatomy")
    assert rows(page) == [9]
    page.locator("#filters").evaluate("form => form.reset()")
    page.get_by_label("Text").fill("FROGS")
    assert (rows(page), page.locator("#found").inner_text()) == ([51], "1 of 20 lines")
    page.get_by_label("Text").fill("no such words")
    assert rows(page) == []


def test_a_line_opens_to_its_choices_and_to_messages_and_replies_of_both(two):
    page = two(fragment="#line-51")
    found = page.locator("#line-51 .opened")
    found.locator(".sides").wait_for()
    assert found.locator(".choices li").all_inner_texts()[2:] == [
        "C\nc\nchosen by run B, correct",
        "D\nd\nchosen by run A",
    ]
    sides = found.locator(".sides > div")
    assert sides.locator(".side").all_inner_texts() == ["run A base ✗ wrong", "run B better ✓ correct"]
    sent = ["Pick a number.", "Question about frogs: 50"]
    said = [sides.nth(place).locator(".message pre").all_text_contents() for place in (0, 1)]
    assert said == [[*sent, "3 says nothing"], [*sent, "2 says nothing"]]


def test_of_three_runs_each_is_beside_the_first_with_lines_of_its_own(made, three):
    page = three()
    for place, found in enumerate(made.three, start=1):
        part = page.locator(f"#run-{place}")
        assert numbers(part.locator(".accuracy")) == [found.delta]
        assert numbers(part.locator(".figures").first)[:2] == [found.p_value, found.p_holm]
        assert numbers(part.locator(".cells")) == [*vars(found.cells).values()]
    assert made.three[1].cells.n == 30
    assert page.get_by_text("Left out are lines that only one of the runs evaluated").count() == 1
    assert len(rows(page)) == 20
    page.locator("select[name=run]").select_option(label="C best")
    assert rows(page) == [1, 2, 3, 4, 5]
    page.locator("#run-1 .cells").get_by_role("link", name="5", exact=True).click()
    assert rows(page) == [*range(6, 11)]
    assert opened(page, 8).locator(".side").all_inner_texts() == ["run A base ✓ correct", "run B better ✗ wrong"]


def test_whatever_models_say_in_their_answers_is_shown_as_text(two):
    page = two(**PHONE)
    for number, text in TEXTS.items():
        said = opened(page, number + 1).locator(".assistant pre")
        for place, choice in enumerate(((number + 1) % 4, number % 4)):
            assert (
                said.nth(place).text_content().startswith(f"{choice} says {text}".replace("\ud800", "\ufffd")[:20_000])
            )
    assert (page.locator("script").count(), page.locator("main img").count()) == (3, 0)
    assert page.locator("#subjects tbody th").get_by_text(THROUGH).count() == 1
    assert fits(page)


def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_page(two, three):
    for page, line in ((two(color_scheme="light"), 9), (three(color_scheme="dark", **PHONE), 43)):
        opened(page, line)
        page.evaluate("document.querySelectorAll('main section > details').forEach((each) => { each.open = true; })")
        assert violations(page) == []
        assert fits(page)


def test_a_line_is_opened_by_keyboard_and_on_paper_the_page_is_light_without_controls(two):
    page = two(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    page.get_by_label("Text").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#line-6 .sides").wait_for()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#filters").is_visible()
    assert page.locator("#line-6 .sides").is_visible()

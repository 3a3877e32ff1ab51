import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlu_pipe.engine.ledger import Ledger, Record
from mmlu_pipe.errors import RunFolderError
from mmlu_pipe.jsonl import dump_line


def run(salt="", **more):
    return lambda salt: {"dataset": "d" * 64, "seed": 7, "endpoint": f"{salt}:e"} | more


def record(number, fate="output", calls=1, text="é\u2028"):
    line = {"question": f"question {number} {text}", "answer": number}
    made = b"".join(dump_line({"line_number": number, "index": index}) for index in range(calls))
    return Record(number, fate, dump_line(line), made)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def filled(path, *records):
    with Ledger(path, run()) as ledger:
        for each in records:
            ledger.append(each)
    return path.read_bytes()


def reopened(path, **more):
    with Ledger(path, run(**more)) as ledger:
        return list(ledger.records())


# What is kept


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(1, 30)), st.data())
def test_records_come_back_in_the_order_of_the_dataset_whatever_order_they_were_kept_in(tmp_path_factory, order, data):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    fates = data.draw(st.lists(st.sampled_from(["output", "errors"]), min_size=30, max_size=30))
    filled(path, *(record(number, fates[number]) for number in order))
    assert reopened(path) == [record(number, fates[number]) for number in sorted(order)]


def test_a_ledger_is_a_jsonl_file(path):
    filled(path, record(3), record(1, "errors", calls=2), record(2, calls=0))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line["line"] for line in lines if "fate" in line] == [0, 3, 1, 2]
    assert lines[1]["seed"] == 7


def test_the_later_of_two_records_of_a_line_holds(path):
    filled(path, record(1, "errors", text="first"), record(2), record(1, "output", text="second"))
    assert reopened(path) == [record(1, "output", text="second"), record(2)]


def test_a_line_that_a_stop_cut_short_is_told_now_and_is_not_finished_later(path):
    with Ledger(path, run()) as ledger:
        ledger.append(record(1))
        ledger.append(record(2, "stopped"))
        assert [each.number for each in ledger.records()] == [1, 2]
        assert (1 in ledger, 2 in ledger, ledger.knows(2)) == (True, False, True)
    with Ledger(path, run()) as ledger:
        assert 2 not in ledger
        ledger.append(record(2))
        assert list(ledger.records()) == [record(1), record(2)]


def test_failed_lines_can_be_left_to_be_asked_again(path):
    filled(path, record(1), record(2, "errors"), record(3, "errors"))
    with Ledger(path, run()) as ledger:
        assert ledger.reopen_failed() == 2
        assert [number in ledger for number in (1, 2, 3, 4)] == [True, False, False, False]
    assert [each.fate for each in reopened(path)] == ["output", "errors", "errors"]


def test_threads_share_a_ledger(path):
    def work(first):
        for number in range(first, 2000, 8):
            ledger.append(record(number + 1))

    with Ledger(path, run()) as ledger:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(ledger.records()) == [record(number) for number in range(1, 2001)]
    assert reopened(path) == [record(number) for number in range(1, 2001)]


def test_after_it_is_closed_nothing_is_kept(path):
    before = filled(path, record(1))
    ledger = Ledger(path, run())
    ledger.close()
    with pytest.raises(RunFolderError, match="the run has ended"):
        ledger.append(record(2))
    assert path.read_bytes() == before


# What a killed process leaves


def test_a_ledger_that_is_cut_anywhere_keeps_every_whole_record_and_goes_on(path):
    whole = filled(path, record(1), record(2, "errors", calls=2), record(3, calls=0))
    ends = [
        len(whole) - sum(len(record(n, f, c).to_bytes()) for n, f, c in rest)
        for rest in (
            [(1, "output", 1), (2, "errors", 2), (3, "output", 0)],
            [(2, "errors", 2), (3, "output", 0)],
            [(3, "output", 0)],
            [],
        )
    ]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with Ledger(path, run()) as ledger:
            kept = max(sum(end <= size for end in ends) - 1, 0)
            assert [each.number for each in ledger.records()] == [1, 2, 3][:kept]
            ledger.append(record(4))
        assert [each.number for each in reopened(path)] == [*[1, 2, 3][:kept], 4]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_damage_costs_the_records_it_hits_and_no_other(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    records = [record(number, calls=number % 3) for number in range(1, 12)]
    whole = filled(path, *records)
    start = len(whole) - sum(len(each.to_bytes()) for each in records)
    place = data.draw(st.integers(start, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    hit, end = 0, start
    while (end := end + len(records[hit].to_bytes())) <= place:
        hit += 1
    with Ledger(path, run()) as ledger:
        assert list(ledger.records()) == [each for each in records if each is not records[hit]]
        ledger.append(records[hit])
    assert reopened(path) == records


def test_a_file_without_a_sound_beginning_is_begun_anew(path):
    path.write_bytes(b'{"line":0,"fate":"run","bytes":[10,0],"crc32":"00000000"}\nxxxxxxxxx\n')
    assert reopened(path) == []


# Whose it is


def test_another_run_is_refused_with_everything_that_differs(path):
    before = filled(path, record(1))
    with pytest.raises(RunFolderError) as caught:
        Ledger(path, run(seed=8, dataset="c" * 64, stream=True))
    told = str(caught.value)
    assert "differs in dataset; seed (it was 7, now 8); stream (it was None, now True)" in told
    assert "c" * 64 not in told
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


def test_what_is_salted_is_compared_under_the_salt_of_the_ledger(path):
    filled(path, record(1))
    other = path.with_name("other.jsonl")
    filled(other, record(1))
    heads = [json.loads(file.read_text(encoding="utf-8").split("\n")[1]) for file in (path, other)]
    assert heads[0]["endpoint"] != heads[1]["endpoint"]
    assert reopened(path) == [record(1)]


# Places that cannot be written


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be written") as caught:
        Ledger(tmp_path, run())
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_full_disk_leaves_the_last_whole_record(path):
    import resource
    import signal

    with Ledger(path, run()) as ledger:
        ledger.append(record(1))
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
        try:
            with pytest.raises(RunFolderError, match="cannot be written") as caught:
                ledger.append(record(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert caught.value.exit_code == 1
        assert path.read_bytes() == before
        ledger.append(record(3))
    assert reopened(path) == [record(1), record(3)]


def test_a_ledger_that_somebody_changes_meanwhile_is_an_error_and_no_wrong_line(path):
    with Ledger(path, run()) as ledger:
        ledger.append(record(1))
        ledger.append(record(2))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - len(record(2).to_bytes())] + record(9).to_bytes())
        with pytest.raises(RunFolderError, match="was changed by another program"):
            list(ledger.records())


def test_a_line_of_any_size_is_kept(path):
    big = Record(1, "output", dump_line({"q": "x" * 5_000_000}), b"")
    filled(path, big)
    assert reopened(path) == [big]


def test_the_ledger_stands_where_it_is_told_to(tmp_path):
    assert Path(tmp_path / "a.jsonl").exists() is False
    filled(tmp_path / "a.jsonl", record(1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]

import inspect
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pluggy
import pytest

import mmlu_pipe.plugins as plugins
from mmlu_pipe import hookspecs
from mmlu_pipe.errors import ConfigError
from mmlu_pipe.plugins import BUILTINS, hookimpl, manager, notify, registry

KINDS = sorted(BUILTINS)


@pytest.fixture(autouse=True)
def _fresh_manager(monkeypatch):
    monkeypatch.setattr(plugins._log, "disabled", False)  # import-linter, run in this process, disables all loggers
    manager.cache_clear()
    yield
    manager.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install distributions with an entry point each, as an installer does: a package and its dist-info."""
    monkeypatch.delenv("MMLU_PIPE_NO_PLUGINS")
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    known = set(sys.modules)

    def install(name, source, entry="main"):
        (site / f"{name}.py").write_text(source, encoding="utf-8")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[mmlu_pipe]\n{entry} = {name}\n", encoding="utf-8")
        return site

    yield install
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


BACKEND = """
from mmlu_pipe.plugins import hookimpl

@hookimpl
def register_backends(register):
    register({name!r}, "a backend of {name}")
"""


# Built-ins


@pytest.mark.parametrize("kind", KINDS)
def test_built_ins_come_through_the_same_hook(kind):
    found = registry(kind)
    assert found
    assert list(registry(kind)) == list(found)  # once more changes nothing


def test_every_kind_has_its_hook_and_every_hook_one_line_that_says_what_it_is():
    names = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")]
    assert {f"register_{kind}" for kind in KINDS} <= set(names)
    for name in names:
        text = inspect.getdoc(getattr(hookspecs, name))
        assert text, name
        assert "\n" not in text, name


def test_the_built_in_names():
    assert "local" in registry("backends")
    assert list(registry("components")) == ["jsonl_guidance_aoai", "jsonl_score_multiplechoice"]
    assert list(registry("select_strategies")) == ["json_schema", "logprob", "text"]
    assert {"run", "score", "create-dataset"} <= set(registry("commands"))


def test_asking_for_one_kind_does_not_load_the_others():
    script = (
        "import sys; from mmlu_pipe.plugins import registry; registry('commands'); "
        "print([name for name in ('openai', 'guidance', 'azure', 'datasets', 'numpy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=True)
    assert ended.stdout.strip() == "[]"


def test_threads_that_ask_at_the_same_time_get_the_same():
    together, found = threading.Barrier(16), []

    def work():
        together.wait(30)
        found.append((id(manager()), tuple(registry("components"))))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len({names for _, names in found}) == 1


# Installed plugins


def test_an_installed_plugin_is_found_by_its_entry_point_and_listed_after_the_built_ins(install):
    install("zebra_plugin", BACKEND.format(name="zebra"))
    install("aardvark_plugin", BACKEND.format(name="aardvark"), entry="other")
    found = registry("backends")
    assert next(iter(found)) == "local"
    assert found["zebra"] == "a backend of zebra"
    assert set(found) == {"local", "azureml", "zebra", "aardvark"}


def test_a_fresh_process_finds_it_too(install):
    site = install("zebra_plugin", BACKEND.format(name="zebra"))
    script = "from mmlu_pipe.plugins import registry; print(list(registry('backends')))"

    def listed(**environment):
        import os

        ended = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": str(site)} | environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        return ended.stdout.strip()

    assert listed() == "['local', 'azureml', 'zebra']"
    assert listed(MMLU_PIPE_NO_PLUGINS="1") == "['local', 'azureml']"


def test_no_plugins_means_none(install, monkeypatch):
    install("broken_plugin", "raise RuntimeError('must not be loaded')\n")
    monkeypatch.setenv("MMLU_PIPE_NO_PLUGINS", "1")
    assert list(registry("backends")) == ["local", "azureml"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('out of order')\n", "RuntimeError: out of order"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("def broken(:\n", "SyntaxError"),
        (
            "from mmlu_pipe.plugins import hookimpl\n@hookimpl\ndef register_backends(register, more):\n    pass\n",
            "PluginValidationError",
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_named_with_what_to_do(install, source, said):
    install("broken_plugin", source, entry="fancy")
    with pytest.raises(ConfigError, match=r"the installed plugin 'fancy' \(broken_plugin\) does not load") as caught:
        registry("backends")
    assert said in str(caught.value)
    assert str(caught.value).endswith("uninstall it, or set MMLU_PIPE_NO_PLUGINS=1")


def test_two_plugins_of_one_name_are_told_apart_or_refused(install):
    install("one_plugin", BACKEND.format(name="one"))
    install("two_plugin", BACKEND.format(name="two"))
    with pytest.raises(ConfigError, match="the installed plugin 'main'"):
        registry("backends")


@pytest.mark.parametrize("name", ["local", "azureml", "zebra"])
def test_two_things_of_one_name_are_refused(install, name):
    install("zebra_plugin", BACKEND.format(name="zebra"))
    install("clash_plugin", BACKEND.format(name=name), entry="other")
    with pytest.raises(ConfigError, match=f"two plugins register the backends '{name}'; uninstall one") as caught:
        registry("backends")
    assert caught.value.exit_code == 2


def test_a_plugin_may_leave_out_the_arguments_it_does_not_need(install):
    install(
        "lazy_plugin",
        "from mmlu_pipe.plugins import hookimpl\nSEEN = []\n"
        "@hookimpl\ndef register_backends():\n    SEEN.append('asked')\n"
        "@hookimpl\ndef run_started(total):\n    SEEN.append(total)\n",
    )
    registry("backends")
    notify("run_started", dataset="d", total=7)
    assert sys.modules["lazy_plugin"].SEEN == ["asked", 7]


# Observers


class Observer:
    def __init__(self, error=None):
        self.error, self.seen = error, []

    @hookimpl
    def run_started(self, dataset, total):
        self.seen.append((dataset, total))
        if self.error is not None:
            raise self.error

    @hookimpl
    def run_finished(self, status):
        self.seen.append(status)


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1), AssertionError()])
def test_an_observer_that_raises_is_logged_and_the_others_still_see_it(error, caplog):
    good, bad = Observer(), Observer(error)
    for name, observer in (("first", good), ("bad", bad), ("last", late := Observer())):
        manager().register(observer, name)
    with caplog.at_level(logging.ERROR, "mmlu_pipe"):
        notify("run_started", dataset="d", total=3)
        notify("run_finished", status="completed")
    for observer in (good, bad, late):
        assert observer.seen == [("d", 3), "completed"]
    assert caplog.messages == ["the plugin bad failed in run_started; the run goes on"]


def test_a_second_ctrl_c_passes_an_observer():
    manager().register(Observer(KeyboardInterrupt()), "slow")
    with pytest.raises(KeyboardInterrupt):
        notify("run_started", dataset="d", total=1)


def test_observers_are_called_as_pluggy_orders_them():
    order = []

    def observer(name, **options):
        class Ordered:
            @hookimpl(**options)
            def run_finished(self, status):
                order.append((name, status))

        return Ordered()

    for name, options in (("a", {}), ("last", {"trylast": True}), ("b", {}), ("first", {"tryfirst": True})):
        manager().register(observer(name, **options), name)
    notify("run_finished", status="s")
    through_pluggy = []
    order, through_notify = through_pluggy, order
    manager().hook.run_finished(status="s")
    assert [name for name, _ in through_notify] == ["first", "b", "a", "last"]
    assert through_notify == through_pluggy


# A model of a plugin

MOCK = """
import guidance
from mmlu_pipe.plugins import hookimpl

SEEN = []

@hookimpl
def make_model(endpoint, options):
    SEEN.append((endpoint.model, options["workers"]))
    return guidance.models.Mock() if endpoint.model == "mock" else None
"""


def test_a_plugins_model_runs_the_whole_pipeline(install, write_dataset, write_config, tmp_path):
    import mmlu_pipe

    install("mock_plugin", MOCK)
    dataset = write_dataset(12)
    config = write_config("https://nowhere.openai.azure.com", aoai_model="mock")
    run = mmlu_pipe.run(dataset, "zero_shot", other_config=config, output_dir=tmp_path / "run", workers=4)
    assert sys.modules["mock_plugin"].SEEN == [("mock", 4)]
    lines = [json.loads(line) for line in (tmp_path / "run" / "output.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["question"] for line in lines] == [f"Question {n}: pick {n % 4}" for n in range(12)]
    assert all(line["zero_shot_choice"] in range(4) for line in lines)
    assert (run.score.count, run.score.answered, run.score.failed) == (12, 12, 0)
    assert (tmp_path / "run" / "calls.jsonl").read_bytes() == b""
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["status"], manifest["run"]["model"]) == ("completed", "mock")


def test_a_plugin_that_makes_no_model_leaves_it_to_the_endpoint(install):
    install("mock_plugin", MOCK)
    from mmlu_pipe.records import Endpoint

    made = manager().hook.make_model(endpoint=Endpoint("https://h", "d", "gpt-4o", "v1"), options={"workers": 1})
    assert made is None


def test_the_hooks_are_a_pluggy_project_of_our_name():
    assert isinstance(manager(), pluggy.PluginManager)
    assert (manager().project_name, plugins.hookimpl.project_name) == ("mmlu_pipe", "mmlu_pipe")
    assert Path(hookspecs.__file__).name == "hookspecs.py"

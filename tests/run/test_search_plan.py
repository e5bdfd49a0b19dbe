"""The hyperparameter search: what it draws, what a larger budget adds, and how it chooses."""

import csv
import json

import pytest
from runs import run

from ddb_jax.debias.table import METHODS
from ddb_jax.run.plan import plan
from ddb_jax.run.records import records
from ddb_jax.stages.common.search import sample_values, tuned, with_values
from ddb_jax.stages.context import Context

HASHES = {"generator": "a", "classifier": "b"}
SEARCHED = [n for n, e in METHODS.items() if e.search or e.stage == "train_classifier"]


@pytest.mark.parametrize("method", SEARCHED)
def test_draws_lie_in_their_ranges_and_the_config_takes_them(method, tiny_config):
    rate = tiny_config.classifier.learning_rate
    assert sample_values(tiny_config, method, 0) == {}
    for number in range(1, 30):
        values = sample_values(tiny_config, method, number)
        if METHODS[method].stage == "train_classifier":
            # Three significant digits of a factor between 0.1 and 10.
            assert rate / 10 <= values["classifier.learning_rate"] <= rate * 10
        for field, source in METHODS[method].search:
            if isinstance(source, list):
                assert values[field] in source
            else:
                assert source[0] <= values[field] <= source[1]
        changed = with_values(tiny_config, values)
        for field, value in values.items():
            section, name = field.split(".")
            assert changed[section][name] == value
        assert tiny_config.classifier.learning_rate == rate


def test_draws_spread_over_a_logarithmic_range(tiny_config):
    """Of 400 log-uniform factors in 0.1..10 half are below 1, a uniform one would have 9%."""
    rate = tiny_config.classifier.learning_rate
    drawn = [
        sample_values(tiny_config, "erm", i)["classifier.learning_rate"] for i in range(1, 401)
    ]
    assert 160 < sum(value < rate for value in drawn) < 240


def test_a_draw_depends_on_seed_method_and_number_alone(tiny_config):
    first = sample_values(tiny_config, "lff", 3)
    tiny_config.search.tries, tiny_config.seeds = 50, (7, 8)
    assert sample_values(tiny_config, "lff", 3) == first
    assert sample_values(tiny_config, "lff", 4) != first
    assert sample_values(tiny_config, "lff+ddb", 3) != first
    tiny_config.search.seed = 1
    assert sample_values(tiny_config, "lff", 3) != first


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(tiny_config):
    tiny_config.methods = ("lff", "afr", "dfr")
    tiny_config.seeds = (3, 4)
    found = {}
    for tries in (1, 2, 4):
        tiny_config.search.tries = tries
        tasks = plan(tiny_config, True)
        found[tries] = {n: r["fingerprint"] for n, r in records(tiny_config, tasks, HASHES).items()}
        own = [task for task in tasks if "/search/" in task.name]
        # The first seed alone; DFR, which is not searched, stands on plain training, which is.
        assert {task.name.split("/")[2] for task in own} == (
            {"lff", "afr", "erm"} if tries > 1 else set()
        )
        assert len(own) == (3 * tries if tries > 1 else 0)
        assert all(task.name.startswith("seed_3/") for task in own)
        # No try is looked at on the test split.
        tried = {task.name for task in own}
        readers = [task for task in tasks if task.stage == "evaluate"]
        assert not any(tried & set(task.inputs.values()) for task in readers)
    assert {n: found[4][n] for n in found[2] if "/search/" in n} == {
        n: value for n, value in found[2].items() if "/search/" in n
    }
    for name in ("seed_3/train_classifier/lff", "seed_4/train_classifier/lff"):
        assert len({found[tries][name] for tries in (1, 2, 4)}) == 3


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([[0.5, 0.5], [0.7, 0.1], [0.6, 0.9]], 1),  # the rule's own figure comes first
        ([[0.5, 0.2], [0.5, 0.3], [0.4, 0.9]], 1),  # then the mean of the groups
        ([[0.5, 0.3], [0.5, 0.3], [0.5, 0.3]], 0),  # then the earlier try
    ],
)
def test_the_best_score_chooses(scores, chosen, tiny_config, tmp_path):
    inputs = {"base": tmp_path}
    for i, score in enumerate(scores):
        inputs[f"try_{i}"] = tmp_path / str(i)
        inputs[f"try_{i}"].mkdir()
        values = {"lff.ema": 0.1 * i} if i else {}
        record = {"score": score, "values": values, "tries": 1}
        (inputs[f"try_{i}"] / "selection.json").write_text(json.dumps(record))
    ema = tiny_config.lff.ema
    context = Context(tiny_config, None, None, None, "lff", 0, tmp_path, inputs)
    context, record = tuned(context)
    assert record == {"values": {"lff.ema": 0.1 * chosen} if chosen else {}, "tries": 3}
    assert context.config.lff.ema == (0.1 * chosen if chosen else ema)


def test_a_search_through_the_pipeline(tiny_config, tmp_path):
    """Its tries are counted in the results, and all seeds are trained with what it chose."""
    tiny_config.methods, tiny_config.seeds = ("afr",), (0, 1)
    tiny_config.search.tries = 3
    tiny_config.classifier.network, tiny_config.classifier.num_steps = "mlp", 4
    tiny_config.classifier.plain_selection = "average"
    tiny_config.afr.num_steps = 5
    run(tiny_config, tmp_path)

    def record(task):
        return json.loads((tmp_path / task / "selection.json").read_text())

    tried = [record(f"seed_0/search/afr/{i}") for i in range(3)]
    best = max(tried, key=lambda one: one["score"])
    assert tried[1]["values"].keys() == {"afr.gamma", "afr.regularization"}
    assert tried[1]["values"] != tried[2]["values"]
    for seed in (0, 1):
        final = record(f"seed_{seed}/train_last_layer/afr")
        assert final["values"] == best["values"] and final["tries"] == 3
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "afr"]
    assert {row["tries"] for row in rows} == {"3"}
    assert {row["seed"] for row in rows} == {"0", "1"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("(chosen)") == 1 and "afr.gamma" in page

"""The table of methods: bias labels, settings, searches, unknown names."""

import inspect
import typing

import pytest

from ddb_jax.checks.config import check_config, field_names
from ddb_jax.configs import base, digits
from ddb_jax.debias import committee, eiil, requirements
from ddb_jax.debias.generated_images import GENERATED
from ddb_jax.debias.table import METHODS
from ddb_jax.runtime.errors import UserError
from ddb_jax.stages.common.search import with_values

ORACLES = ("bias_bal", "bias_con", "dfr", "group_dro", "resampling", "reweighting")
UNSUPERVISED = tuple(name for name in METHODS if name not in ORACLES)


def test_only_the_named_oracles_use_bias_labels():
    assert {name for name, entry in METHODS.items() if entry.uses_bias_labels} == set(ORACLES)
    for name, entry in METHODS.items():
        assert entry.requires in requirements.ALL, name
        assert entry.uses_bias_labels == (entry.requires == "true_groups"), name


def of_settings(function):
    """Names and types of the settings that a function's first argument asks for."""
    protocol = next(iter(inspect.signature(function).parameters.values())).annotation
    return {} if protocol is typing.Any else typing.get_type_hints(protocol)


def test_every_setting_is_a_field_of_its_section():
    config = base.get_config()
    pairs = [(name, entry.settings, entry.make) for name, entry in METHODS.items()]
    pairs += [("committee", "committee", committee.make), ("eiil", "eiil", eiil.infer_environments)]
    for name, section, make in pairs:
        fields = of_settings(make)
        assert bool(section) == bool(fields), name
        if section:
            assert set(config[section]) == set(fields), name
            for field, kind in fields.items():
                kind = tuple if typing.get_origin(kind) else kind
                assert type(config[section][field]) is kind, (name, field)


def test_what_a_search_may_draw_is_accepted():
    config = digits.get_config("smoke")
    config.methods = tuple(METHODS)
    known, least, most = set(field_names(config)), {}, {}
    for name, entry in METHODS.items():
        for field, source in entry.search:
            assert field in known and field.startswith(f"{entry.settings}."), (name, field)
            if not isinstance(source, list):
                *source, scale = source
                assert scale == "linear" or (scale == "log" and source[0] > 0), (name, field)
            assert source[0] < source[-1], (name, field)
            least[field], most[field] = source[0], source[-1]
    assert len(least) > 10
    for values in (least, most):
        check_config(with_values(config, values))


def test_an_unknown_method_is_refused_with_the_nearest():
    config = digits.get_config("smoke")
    config.methods = ("erm", "disnet+ddb")
    with pytest.raises(UserError) as error:
        check_config(config)
    named = ", ".join([*METHODS, *GENERATED])
    assert str(error.value).startswith(
        f"config.methods: 'disnet+ddb' is no method, the nearest of {named} is 'disent+ddb'; "
    )


# The run.

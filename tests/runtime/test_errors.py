"""Words of messages."""

from ddb_jax.runtime.errors import first_few


def test_the_first_few_and_how_many_more():
    assert first_few(["a"]) == "a"
    assert first_few("abc") == "a, b, c"
    assert first_few(range(1_204), shown=2, separator="; ") == "0; 1 and 1,202 more"
    assert first_few([]) == ""

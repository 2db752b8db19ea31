"""The environment is what this process has, and a change of it is named."""

import jax

from liver_jax.runtime.environment import describe_environment, environment_changes


def test_it_describes_this_process():
    found = describe_environment()
    assert (found['jax'], found['devices'], found['processes']) == (jax.__version__, 8, 1)
    assert found['device'] == 'cpu'
    assert environment_changes(found, describe_environment()) == []


def test_changes_are_named_those_of_other_versions_too():
    before, now = {'jax': '0.10', 'devices': 8, 'old': 1}, {'jax': '0.11', 'devices': 8, 'new': 2}
    assert environment_changes(before, now) == ['jax: 0.10 -> 0.11', 'new: None -> 2', 'old: 1 -> None']

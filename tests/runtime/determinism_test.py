"""XLA is asked for deterministic kernels, whatever else is asked of it."""

import pytest

from liver_jax.errors import UserError
from liver_jax.runtime import determinism
from liver_jax.runtime.determinism import FLAG, check_determinism, request_determinism


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (None, FLAG),
        ('--xla_dump_to=x', f'--xla_dump_to=x {FLAG}'),
        (FLAG, FLAG),
        (f'{FLAG} --xla_gpu_deterministic_ops=false', f'{FLAG} --xla_gpu_deterministic_ops=false {FLAG}'),
    ],
)
def test_the_flag_is_the_last_word(before, after, monkeypatch):
    monkeypatch.delenv('XLA_FLAGS', raising=False)
    if before is not None:
        monkeypatch.setenv('XLA_FLAGS', before)
    request_determinism()
    assert determinism.os.environ['XLA_FLAGS'] == after


def test_on_gpus_it_must_have_been_asked_for_in_time(monkeypatch):
    monkeypatch.delenv('XLA_FLAGS', raising=False)
    check_determinism()  # on CPU there is nothing to ask for
    monkeypatch.setattr(determinism.jax, 'default_backend', lambda: 'gpu')
    with pytest.raises(UserError, match=rf'train\.deterministic is True; expected {FLAG} in XLA_FLAGS'):
        check_determinism()
    request_determinism()
    check_determinism()

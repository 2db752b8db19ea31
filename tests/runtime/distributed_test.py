"""What the environment says of other processes; jobs of several are tested in tests/launch."""

import jax
import pytest

from liver_jax.errors import UserError
from liver_jax.runtime import distributed
from liver_jax.runtime.distributed import EXPLICIT, first_before_others, in_all, initialise, is_first, on_first, place

SLURM = {
    'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'node[1-2]', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '1',
    'SLURM_LOCALID': '0',
}  # fmt: skip
THREE = dict(zip(EXPLICIT, ('10.0.0.1:8476', '2', '1'), strict=True))


@pytest.mark.parametrize(
    ('environment', 'arguments'),
    [
        ({}, None),
        (SLURM, {}),
        ({**SLURM, 'SLURM_NTASKS': '1'}, None),
        ({**SLURM, 'SLURM_STEP_NODELIST': None}, None),  # the batch script itself, outside srun
        ({**SLURM, 'JAX_COORDINATOR_ADDRESS': 'node1:9000'}, {}),
        ({'OMPI_MCA_orte_hnp_uri': '1.0;tcp://10.0.0.1:1', 'OMPI_COMM_WORLD_SIZE': '4'}, {}),
        ({**THREE, 'JAX_NUM_PROCESSES': '1', 'JAX_PROCESS_ID': '0'}, None),
        (
            {**SLURM, **THREE},
            {
                'coordinator_address': '10.0.0.1:8476', 'num_processes': 2, 'process_id': 1,
                'cluster_detection_method': 'deactivate',
            },
        ),
    ],
)  # fmt: skip
def test_the_job_that_an_environment_speaks_of(environment, arguments):
    given = {name: value for name, value in environment.items() if value}
    assert distributed._job_of(given) == arguments


@pytest.mark.parametrize(
    ('wrong', 'said'),
    [
        ({'JAX_PROCESS_ID': ''}, 'JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES without JAX_PROCESS_ID; expected all'),
        ({'JAX_PROCESS_ID': '2'}, 'JAX_PROCESS_ID=2, JAX_NUM_PROCESSES=2: expected numbers, the first from 0 to n - 1'),
        ({'JAX_NUM_PROCESSES': 'two'}, 'JAX_NUM_PROCESSES=two'),
        ({'JAX_COORDINATOR_ADDRESS': 'node1'}, 'JAX_COORDINATOR_ADDRESS=node1: expected HOST:PORT'),
    ],
)
def test_variables_that_do_not_fit_are_named(monkeypatch, wrong, said):
    for name, value in {**THREE, **wrong}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        initialise()
    assert not jax.distributed.is_initialized()


def test_alone_everything_is_done_here():
    initialise()
    assert (is_first(), place(), in_all(True), in_all(False)) == (True, (0, 1), True, False)
    assert on_first(lambda: 5) == 5
    with pytest.raises(KeyError), first_before_others():
        raise KeyError

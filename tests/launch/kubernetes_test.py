"""launch/kubernetes against the schemas of Kubernetes, and its parts against one another."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from liver_jax.runtime.distributed import EXPLICIT
from liver_jax.runtime.interrupt import RESUME_CODE

FILE = Path(__file__).parent.parent.parent / 'launch' / 'kubernetes' / 'job.yaml'


@pytest.fixture
def manifests():
    return {each['kind']: each for each in yaml.safe_load_all(FILE.read_text())}


def test_they_are_what_kubernetes_expects(manifests):
    assert list(manifests) == ['Service', 'Job']
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    manifests['Job']['spec']['completionMod'] = 'Indexed'
    with pytest.raises(kubernetes_validate.ValidationError, match='completionMod'):
        kubernetes_validate.validate(manifests['Job'], kubernetes_validate.latest_version(), strict=True)


def test_the_parts_speak_of_one_another(manifests):
    service, job = manifests['Service'], manifests['Job']
    pod = job['spec']['template']['spec']
    (container,) = pod['containers']
    environment = {each['name']: each.get('value') for each in container['env']}
    assert set(environment) == set(EXPLICIT)
    assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
    assert environment['JAX_COORDINATOR_ADDRESS'].startswith(
        f'{job["metadata"]["name"]}-0.{service["metadata"]["name"]}:'
    )
    assert pod['subdomain'] == service['metadata']['name']
    assert int(environment['JAX_NUM_PROCESSES']) == job['spec']['completions'] == job['spec']['parallelism']
    again = job['spec']['podFailurePolicy']['rules'][0]
    assert (again['action'], again['onExitCodes']['values']) == ('Ignore', [RESUME_CODE])

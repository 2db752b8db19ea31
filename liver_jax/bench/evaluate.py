"""`liver-jax bench eval`: scoring slices with and without SSIM, and whole volumes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from liver_jax.bench.plan import Plan, case_name
from liver_jax.bench.table import markdown, rated
from liver_jax.bench.timing import in_turns, rate
from liver_jax.data.phantom import make_phantom
from liver_jax.data.store import SliceStore
from liver_jax.evaluation.run import make_evaluator
from liver_jax.evaluation.score_volumes import score_volume
from liver_jax.runtime.mesh import make_mesh
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import init_state

ROUNDS = 3


def bench_eval(plan: Plan) -> dict[str, Any]:
    """The evaluator of a network on slices of the store, and the volume scores of a shifted reference."""
    config, mesh = plan.case_config(plan.cases[0]), make_mesh()
    store = SliceStore(Path(config.data.store))
    rows, recipe = np.arange(min(plan.slices, len(store))), make_recipe(config, 100)
    evaluator = make_evaluator(config, recipe.model, mesh, store, rows)
    variables = init_state(recipe, config.data.image_size, config.seed, mesh).variables
    phantom = make_phantom(0, 0)
    reference, spacing = phantom.labels.T, phantom.spacing[::-1]
    prediction = np.roll(reference, 2, axis=2)
    turns = in_turns(
        {
            'predict': lambda calls: [evaluator.predict(variables) for _ in range(calls)],
            'score': lambda calls: [evaluator.run(variables) for _ in range(calls)],
            'volume': lambda calls: [score_volume(prediction, reference, spacing) for _ in range(calls)],
        },
        plan.seconds,
        ROUNDS,
    )
    amounts = {'predict': len(rows), 'score': len(rows), 'volume': 1}
    return {
        'network': case_name(plan.cases[0]),
        'slices': len(rows),
        'batch_size': config.eval.batch_size,
        'devices': jax.device_count(),
        'volume_shape': list(reference.shape),
        'per_second': {name: rate(turns[name].seconds, amount) for name, amount in amounts.items()},
    }


def eval_text(results: dict[str, Any]) -> str:
    """The table."""
    volume = '×'.join(map(str, results['volume_shape']))
    names = {
        'predict': 'predictions of slices, without SSIM',
        'score': 'scores of slices, with SSIM',
        'volume': f'volume scores of {volume} voxels',
    }
    rows = [
        [name, *rated(results['per_second'][key]), 'volumes/s' if key == 'volume' else 'slices/s']
        for key, name in names.items()
    ]
    about = f'{results["network"]}; {results["slices"]} slices in batches of {results["batch_size"]}.'
    return markdown(['what', 'pace', '±', ''], rows) + f'\n\n{about}'

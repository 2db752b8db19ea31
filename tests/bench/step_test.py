"""The text of row `step` beside peers, from numbers made up by hand."""

from liver_jax.bench.step import step_text


def rate(median, spread):
    return {'median': median, 'lowest': median - spread, 'highest': median + spread}


def side(name, pace, ratio, parameters=7763905, loss=0.0144):
    return {
        'name': name,
        'slices_per_second': rate(pace, 0.05 * pace),
        'ours_to_it': rate(ratio, 0.1),
        'ours_to_it_in_processor_time': rate(ratio + 0.5, 0.1),
        'model_flops': 18.041e9 * pace,
        'of_peak': 0.456,
        'parameters': parameters,
        'step_flops_per_slice': 18.041e9,
        'memory_bytes': None if name != 'liver_jax' else 588e6,
        'first_loss': loss,
    }


CASE = {'name': 'resunet', 'width': 64, 'dtype': 'bfloat16', 'batch_size': 256, 'peers': True, 'image_size': 128}
SIDES = [
    side('liver_jax', 20000.0, 1.0),
    side('torch channels-last', 10000.0, 2.0, 7762465),
    {'name': 'torch compile', 'failed': 'no compiler'},
]


def test_peers_stand_below_ours_with_the_ratio():
    lines = step_text({'cases': [{**CASE, 'sides': SIDES}]}).splitlines()
    assert max(map(len, lines)) <= 80
    assert [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines[2:5]] == [
        ['ResU-Net/64 bf16 ×256', '20,000', '±5 %', '–', '361 T', '46 %', '588 MB'],
        ['· torch channels-last', '10,000', '±5 %', '2.00', '180 T', '46 %', '–'],
        ['· torch compile', *['–'] * 6],
    ]
    assert 'ResU-Net/64 bf16 ×256, torch compile: no compiler' in lines
    assert '  liver_jax           7,763,905 parameters, 18.041 GFLOPs, loss 0.0144' in lines
    assert '  torch channels-last 7,762,465 parameters, 18.041 GFLOPs, loss 0.0144 (2.50)' in lines


def test_a_case_that_failed_has_a_line_and_the_reason():
    text = step_text({'cases': [{**CASE, 'failed': 'out of memory'}]})
    assert '| ResU-Net/64 bf16 ×256 |        – |' in text
    assert 'ResU-Net/64 bf16 ×256: out of memory' in text

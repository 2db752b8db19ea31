"""The report: figures, tables and the page of a comparison or a run.

Nothing here trains or opens a scan. `html` makes the page of a finished run: `findings` loads it and predicts its test
slices again; `lesions`, `slice_data`, `plots` (drawn with `charts`), `sections` and `examples` turn that into data,
charts and HTML; `assets` holds its script and style. The other modules take arrays, dictionaries and strings, and
return text or write one PNG: `panels` (slices side by side), `curves` (training histories), `tables` (the scores),
`panel_table` (the honest panel), `reliability` (calibration).
"""

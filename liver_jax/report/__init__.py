"""The report: figures and tables of a comparison, made from results as plain data.

Nothing here trains or opens a scan. `html` makes the page of a finished run: `findings` loads it and predicts its test
slices again, the other modules turn findings into sections, charts and data for the page's script (`assets`). The
modules besides take arrays, dictionaries and strings, and return text or write one PNG: `panels` (slices side by side), `curves` (training histories), `tables` (the scores).
"""

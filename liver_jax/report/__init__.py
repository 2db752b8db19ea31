"""The report: figures and tables of a comparison, made from results as plain data.

Nothing here trains, scores or opens a scan. The modules take arrays, dictionaries and strings, and return
text or write one PNG: `panels` (slices side by side), `curves` (training histories), `tables` (the scores).
"""

"""One training: `steps` is the iteration, on a `learner`; `loop` repeats it; `fit` keeps it in a run's folder.

`processes` is the engine: device, precision, and several processes that share each batch.
"""

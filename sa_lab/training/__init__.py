"""One training: `steps` is the iteration, on a `learner`; `loop` repeats it; `fit` keeps it in a run's folder."""

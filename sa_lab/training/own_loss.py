"""What tells a loss of one's own apart from another one."""

from __future__ import annotations

import hashlib
import inspect

from sa_lab.training.learner import OwnLoss


def own_loss_name(own_loss: OwnLoss) -> str:
    """What `LossConfig.own` calls a function: its name and a digest of its source, not of what it calls or reads.

    Raises:
        ValueError: the source cannot be read, or the function has no name.
    """
    name = getattr(own_loss, "__name__", "")
    if not name.isidentifier():
        raise ValueError(f"own_loss is {own_loss!r}, expected a function with a name of its own (def)")
    try:
        source = inspect.getsource(own_loss)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"own_loss is {own_loss!r}, expected a function whose source can be read, from a file or a notebook's cell"
        ) from error
    return f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"

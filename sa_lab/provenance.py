"""What a result was made of: the library's code, and functions of the user's.

Code is told apart by what it does, not by how it is written down: comments, layout and docstrings may change.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import platform
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from sa_lab.disk import tell

TRAINING = (
    "losses", "model", "samplers", "transforms", "config", "schema", "intervals", "data", "training", "evaluation",
    "experiment",
)  # fmt: skip
"""Modules and folders of the library that make a run."""
ANALYSIS = ("analysis", "intervals", "schema")
"""Those that measure the overlap of a run."""
_HERE = Path(__file__).parent


def code_digest(parts: Iterable[str]) -> str:
    """Hash of what modules and folders of the library do.

    Raises:
        ValueError: the files are not those that this process has loaded, so that nobody knows what it runs.
    """
    now = {part: _digest_on_disk(part) for part in parts}
    if changed := [part for part, digest in now.items() if digest != _LOADED[part]]:
        raise ValueError(
            f"{', '.join(changed)} of the library changed after this process had loaded it; restart the kernel or "
            "program, so that results are kept under the code that made them"
        )
    return hashlib.sha256("".join(now.values()).encode()).hexdigest()


def _digest_on_disk(part: str) -> str:
    place = _HERE / part
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    texts = [_bare(file, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@functools.lru_cache(maxsize=256)
def _bare(file: Path, changed: int) -> str:
    """Python code without comments, layout and docstrings; ``changed``: when it was written, for the cache."""
    del changed
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            texts = [x for x in body if isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)]
            node.body = [x for x in body if x not in texts] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


_LOADED = {part: _digest_on_disk(part) for part in (*TRAINING, *ANALYSIS)}


def function_name(function: Callable[..., Any]) -> str:
    """The name of a user's function or module and a digest of all that decides what it gives.

    That is its code, defaults, closure, the globals it reads, the user's functions and classes it calls, and the state
    of modules and objects; of functions in installed packages it is their name and the package's version.

    Where something cannot be told apart from another one of its kind (an open file), the digest is a new one in each
    process and for each object, so that nothing is reused, and the user is told.

    Raises:
        ValueError: it cannot be called, or has no name.
    """
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    if not callable(function) or not name.isidentifier():
        raise ValueError(f"own_loss is {function!r}, expected a function with a name of its own (def)")
    digest = hashlib.sha256()
    try:
        for word in _describe(function, {}):
            digest.update(word + b"\0")
    except _Unknown as unknown:
        if id(function) not in _UNIQUE:
            _UNIQUE[id(function)] = function, uuid.uuid4().hex[:8]
            tell(f"{name} depends on {unknown}, which cannot be told apart from another one: its run is never reused")
        return f"{name}-once{_UNIQUE[id(function)][1]}"
    return f"{name}-{digest.hexdigest()[:8]}"


class _Unknown(Exception):
    """A value that cannot be hashed; the message describes it."""


_UNIQUE: dict[int, tuple[Any, str]] = {}
"""Names given for good, by the identity of what has them, which is kept so that no other object takes it on."""


def _describe(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[bytes]:
    """Bytes that are equal for equal values, in every process."""
    if isinstance(value, enum.Enum | np.dtype | types.EllipsisType) or type(value) in _PLAIN:
        yield f"{type(value).__name__} {value!r}".encode()
        return
    if id(value) in seen:
        yield f"again {seen[id(value)][0]}".encode()
        return
    seen[id(value)] = len(seen), value  # kept, so that no other object takes on its id
    yield type(value).__qualname__.encode()
    if isinstance(value, types.ModuleType):
        yield _version_of(value.__name__)
        if not _is_installed(value):
            yield from _describe({k: v for k, v in vars(value).items() if not k.startswith("__")}, seen)
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) and _is_installed(value):
        yield f"{value.__module__}.{value.__qualname__}".encode() + _version_of(value.__module__ or "builtins")
    elif isinstance(value, types.FunctionType):
        yield from _describe_function(value, seen)
    elif isinstance(value, types.MethodType):
        yield from _describe([value.__func__, value.__self__], seen)
    elif isinstance(value, functools.partial):
        yield from _describe([value.func, value.args, value.keywords], seen)
    elif isinstance(value, staticmethod | classmethod):
        yield from _describe(value.__func__, seen)
    elif isinstance(value, property):
        yield from _describe([value.fget, value.fset], seen)
    elif isinstance(value, type):
        own = {k: v for k, v in vars(value).items() if not (k.startswith("__") and k not in _CALLED)}
        yield from _describe([value.__qualname__, value.__bases__, own], seen)
    elif isinstance(value, dict | types.MappingProxyType):
        for key in sorted(value, key=repr):
            yield from _describe(key, seen)
            yield from _describe(value[key], seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _describe(item, seen)
    elif isinstance(value, set | frozenset):
        yield from sorted(b" ".join(_describe(item, dict(seen))) for item in value)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif type(value).__module__.startswith("torch") and hasattr(value, "detach"):
        yield from _describe([str(value.dtype), value.detach().cpu().view(-1).numpy(force=True)], seen)
    elif type(value).__module__ in ("torch", "numpy") and not hasattr(value, "__dict__"):
        yield repr(value).encode()  # devices, data types, sizes
    elif isinstance(value, np.random.Generator):
        yield from _describe(value.bit_generator.state, seen)
    elif hasattr(value, "__dict__") and not hasattr(value, "__next__"):
        yield from _describe([type(value), _state_of(value)], seen)
    else:
        raise _Unknown(f"a value of type {type(value).__qualname__}")


_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, slice, range, np.float32, np.float64, np.int64, np.bool_,
    *(type(path) for path in (Path(), PurePath())),
)  # fmt: skip
_CALLED = ("__call__", "__init__", "__new__", "__post_init__", "__getattr__", "__getitem__", "__len__", "__iter__")


def _state_of(value: Any) -> dict[str, Any]:
    """The attributes of an object; those of a torch module without what hooks and counters have left there."""
    if hasattr(value, "state_dict") and hasattr(value, "named_modules"):
        kept = {k: v for k, v in vars(value).items() if not k.startswith("_") or k == "_modules"}
        return kept | {"state": dict(value.state_dict())}
    return dict(vars(value))


def _describe_function(function: types.FunctionType, seen: dict[int, tuple[int, Any]]) -> Iterator[bytes]:
    yield from _describe_code(function.__code__, function.__doc__)
    yield from _describe([function.__defaults__, function.__kwdefaults__], seen)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name.encode()
        try:
            yield from _describe(cell.cell_contents, seen)
        except ValueError:  # empty as yet
            yield b"empty"
    names = _names_in(function.__code__)
    for name in sorted(names & set(function.__globals__)):
        value = function.__globals__[name]
        yield name.encode()
        if isinstance(value, types.ModuleType) and not _is_installed(value):
            read = {k: vars(value)[k] for k in sorted(names & set(vars(value)))}
            yield from _describe(read, seen)
        else:
            yield from _describe(value, seen)


def _describe_code(code: types.CodeType, doc: str | None = None) -> Iterator[bytes]:
    """What a function does, without its name, lines and docstring ``doc``, its first constant (None for none)."""
    yield code.co_code + repr((code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_names)).encode()
    yield repr((code.co_varnames, code.co_freevars)).encode()
    for place, constant in enumerate(code.co_consts):
        if isinstance(constant, types.CodeType):
            yield from _describe_code(constant)
        elif place > 0 or constant != doc:
            yield from _describe(constant, {})


def _names_in(code: types.CodeType) -> set[str]:
    """Names of globals and attributes in a function and in those inside of it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _is_installed(value: Any) -> bool:
    """Whether a module, function or class comes from Python or an installed package, not from the user."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    module = sys.modules.get(name or "")
    file = getattr(module, "__file__", None)
    if module is None or name == "__main__":
        return isinstance(value, types.BuiltinFunctionType)
    if name.partition(".")[0] in {*sys.stdlib_module_names, "sa_lab"} or file is None:
        return True
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _version_of(module: str) -> bytes:
    package = module.partition(".")[0]
    if package == "sa_lab":
        return code_digest(TRAINING).encode()
    return f"{package} {getattr(sys.modules.get(package), '__version__', platform.python_version())}".encode()

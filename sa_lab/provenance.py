"""What a result was made of: the library's code, and functions of the user's.

Code is told apart by what it does, not by how it is written down: comments, layout and docstrings may change.
"""

from __future__ import annotations

import ast
import dis
import enum
import functools
import hashlib
import platform
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from sa_lab.disk import tell

TRAINING = (
    "losses", "baselines", "backbones", "weights", "model", "samplers", "transforms", "config", "schema", "intervals",
    "data", "training", "evaluation", "experiment",
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
    now = {part: _digest(_sources(part)) for part in parts}
    if changed := [part for part, digest in now.items() if digest != _digest(_LOADED[part])]:
        raise ValueError(
            f"{', '.join(changed)} of the library changed after this process had loaded it; restart the kernel or "
            "program, so that results are kept under the code that made them"
        )
    return hashlib.sha256("".join(now.values()).encode()).hexdigest()


def _sources(part: str) -> tuple[bytes, ...]:
    place = _HERE / part
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return tuple(file.read_bytes() for file in files)


def _digest(sources: Iterable[bytes]) -> str:
    return hashlib.sha256("\n".join(_bare(source) for source in sources).encode()).hexdigest()


@functools.lru_cache(maxsize=256)
def _bare(source: bytes) -> str:
    """Python code without comments, layout and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            texts = [x for x in body if isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)]
            node.body = [x for x in body if x not in texts] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


_LOADED = {part: _sources(part) for part in dict.fromkeys((*TRAINING, *ANALYSIS))}
"""What this process has loaded; it is parsed when somebody asks, for that takes a third of a second."""


def function_name(function: Callable[..., Any]) -> str:
    """The name of a user's function or module and a digest of all that decides what it gives.

    That is its code, defaults, closure, the globals it reads, the user's functions and classes it calls, and the state
    of modules and objects; of functions in installed packages it is their name and the package's version.

    Where something cannot be told apart from another one of its kind (an open file, ``globals()``), the digest is a
    new one in each process and for each object, so that nothing is reused, and the user is told.

    Raises:
        ValueError: it cannot be called, or has no name.
    """
    if id(function) in _UNIQUE:
        return _UNIQUE[id(function)][1]
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
    except Exception as unknown:  # a user's object may do anything
        what = str(unknown) or type(unknown).__name__
        tell(f"{name} depends on {what}, which cannot be told apart from another one: its run is never reused")
        known_as(function, f"{name}-once{uuid.uuid4().hex[:8]}")
        return _UNIQUE[id(function)][1]
    return f"{name}-{digest.hexdigest()[:8]}"


def function_in(place: str, argument: str) -> Callable[..., Any]:
    """A function or module from a user's Python file, which is executed.

    Args:
        place: as in losses.py:closeness.
        argument: what an error calls it.

    Raises:
        ValueError: no such file or name, or the file cannot be run.
    """
    import cloudpickle

    path, _, name = place.rpartition(":")
    file = Path(path)
    if not path or not name.isidentifier() or not file.is_file():
        missing = f" ({path}: no such file)" if path and not file.is_file() else ""
        raise ValueError(f"{argument} is {place!r}{missing}, expected a file and a name in it, as in mine.py:function")
    module = types.ModuleType("own_" + re.sub(r"\W", "_", file.stem))
    module.__file__ = str(file.absolute())
    sys.modules[module.__name__] = module
    cloudpickle.register_pickle_by_value(module)  # other processes have no such module
    try:
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), vars(module))
    except Exception as error:
        raise ValueError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    if not callable(found := getattr(module, name, None)):
        raise ValueError(f"{file} has no function or module {name!r}")
    function: Callable[..., Any] = found
    return function


def known_as(function: Callable[..., Any], name: str) -> None:
    """Give ``function`` the name that it has in the process that sent it here."""
    _UNIQUE[id(function)] = function, name


class _Unknown(Exception):
    """A value that cannot be hashed; the message describes it."""


_UNIQUE: dict[int, tuple[Any, str]] = {}
"""Names given for good, by the identity of what has them, which is kept so that no other object takes it on."""


def _describe(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[bytes]:
    """Bytes that are equal for equal values, in every process.

    Raises:
        _Unknown: there are none.
    """
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
    elif isinstance(value, _OF_OBJECTS) and not isinstance(value.__self__, types.ModuleType | None):
        yield value.__name__.encode()
        yield from _describe(value.__self__, seen)
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType) and _is_installed(value):
        yield f"{value.__module__}.{value.__qualname__}".encode() + _version_of(value.__module__ or "builtins")
    elif isinstance(value, types.FunctionType):
        yield from _describe_function(value, seen)
    elif isinstance(value, types.MethodType):
        yield from _describe([value.__func__, value.__self__], seen)
    elif isinstance(value, staticmethod | classmethod):
        yield from _describe(value.__func__, seen)
    elif isinstance(value, property):
        yield from _describe([value.fget, value.fset], seen)
    elif isinstance(value, _OF_CLASSES):
        yield value.__name__.encode()
        yield from _describe(value.__objclass__, seen)
    elif isinstance(value, type):
        own = {name: member for name, member in vars(value).items() if name not in _WRITTEN_DOWN}
        yield from _describe([value.__qualname__, value.__bases__, own], seen)
    elif type(value) in (dict, types.MappingProxyType):
        for key in sorted(value, key=repr):
            yield from _describe(key, seen)
            yield from _describe(value[key], seen)
    elif type(value) in (list, tuple):
        for item in value:
            yield from _describe(item, seen)
    elif type(value) in (set, frozenset):
        yield from sorted(b" ".join(_describe(item, dict(seen))) for item in value)
    elif type(value) is np.ndarray and not value.dtype.hasobject:
        yield f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif _is_of_torch(value, "torch", "Tensor"):
        numbers = value.detach().cpu().contiguous().view(-1).view(sys.modules["torch"].uint8).numpy(force=True)
        yield from _describe([type(value), str(value.dtype), value.shape, value.requires_grad, vars(value)], seen)
        yield numbers.tobytes()
    else:
        yield from _describe(_state_of(value), seen)


_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, slice, range, np.float32, np.float64, np.int64, np.bool_,
    *(type(path) for path in (Path(), PurePath())),
)  # fmt: skip
_OF_OBJECTS = (types.BuiltinMethodType, types.MethodWrapperType)
_OF_CLASSES = (
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType,
    types.GetSetDescriptorType, types.MemberDescriptorType,
)  # fmt: skip
_WRITTEN_DOWN = (
    "__module__", "__dict__", "__weakref__", "__doc__", "__annotations__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__firstlineno__", "__static_attributes__", "__dataclass_fields__", "__dataclass_params__",
    "__orig_bases__", "__parameters__", "__abstractmethods__", "_abc_impl", "__classcell__",
)  # fmt: skip
"""What Python writes down of a class, which does nothing by itself."""
_REACHES_ANYTHING = {"globals", "locals", "vars", "eval", "exec", "compile", "__import__", "import_module"}


def _is_of_torch(value: Any, module: str, name: str) -> bool:
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))


def _state_of(value: Any) -> list[Any]:
    """What an object is made of, as pickle would keep it, and its attributes.

    Raises:
        _Unknown: pickle would not.
    """
    attributes = dict(getattr(value, "__dict__", {}))
    if _is_of_torch(value, "torch.nn", "Module"):  # hooks have numbers, which other modules count up
        hooks = [name for name, one in attributes.items() if isinstance(one, dict) and "_hooks" in name]
        return [type(value), attributes | {name: list(attributes[name].values()) for name in hooks}]
    if hasattr(value, "__next__"):
        raise _Unknown(f"a value of type {type(value).__qualname__}")
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        raise _Unknown(f"a value of type {type(value).__qualname__}") from error
    if isinstance(reduced, str):
        return [type(value), reduced]
    made, arguments, *state = reduced
    items = [None if one is None else list(one) for one in state[1:3]]
    return [made, arguments, *state[:1], *items, attributes]


def _describe_function(function: types.FunctionType, seen: dict[int, tuple[int, Any]]) -> Iterator[bytes]:
    yield from _describe_code(function.__code__, function.__doc__)
    yield from _describe([function.__defaults__, function.__kwdefaults__, vars(function)], seen)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name.encode()
        try:
            yield from _describe(cell.cell_contents, seen)
        except ValueError:  # empty as yet
            yield b"empty"
    names = _names_in(function.__code__)
    if everything := names & _REACHES_ANYTHING:
        raise _Unknown(f"what {function.__qualname__} reaches by {', '.join(sorted(everything))}")
    for name in sorted(names & set(function.__globals__)):
        value = function.__globals__[name]
        yield name.encode()
        if isinstance(value, types.ModuleType) and not _is_installed(value) and "getattr" not in names:
            read = {k: vars(value)[k] for k in sorted(names & set(vars(value)))}
            yield from _describe(read, seen)
        else:
            yield from _describe(value, seen)


def _describe_code(code: types.CodeType, doc: str | None = None) -> Iterator[bytes]:
    """What a function does, without its name, lines and docstring ``doc``: a first constant that nothing reads."""
    yield code.co_code + repr((code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_names)).encode()
    yield repr((code.co_varnames, code.co_freevars)).encode()
    reads = {one.arg for one in dis.get_instructions(code) if one.opcode in dis.hasconst}
    for place, constant in enumerate(code.co_consts):
        if isinstance(constant, types.CodeType):
            yield from _describe_code(constant)
        elif place > 0 or constant != doc or 0 in reads:
            yield from _describe(constant, {})


def _names_in(code: types.CodeType) -> set[str]:
    """Names of globals and attributes in a function and in those inside of it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _is_installed(value: Any) -> bool:
    """Whether a module, function or class comes from Python or an installed package, not from the user."""
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    if name is None or name == "__main__" or name not in sys.modules:
        return isinstance(value, types.BuiltinFunctionType)
    package = name.partition(".")[0]
    if package in {*sys.stdlib_module_names, "sa_lab"}:
        return True
    places = [
        Path(place)
        for module in (sys.modules[name], sys.modules.get(package))
        for place in (getattr(module, "__file__", None), *getattr(module, "__path__", ()))
        if place
    ]
    return bool(places) and bool({"site-packages", "dist-packages"} & set(places[0].parts))


def _version_of(module: str) -> bytes:
    package = module.partition(".")[0]
    if package == "sa_lab":
        return code_digest(TRAINING).encode()
    if package in sys.stdlib_module_names or package not in sys.modules:
        return f"{package} {platform.python_version()}".encode()
    version = getattr(sys.modules[package], "__version__", None)
    if version is None and package in _distributions():
        version = [metadata.version(name) for name in sorted(set(_distributions()[package]))]
    if version is None and _is_installed(sys.modules[package]):
        raise _Unknown(f"{package}, which has no version")
    return f"{package} {version}".encode()


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()

"""Make a module be its mutant, in a process that has it in use already.

What functions do is their code object: where only that differs, it is exchanged in all functions
that have it, also in those that are wrapped in decorators or kept by somebody. That takes
milliseconds, and nothing is imported or collected anew. So is a constant of the module that only
functions use: it is set, also where others have imported it by name. Where anything else differs
(classes, defaults of arguments, decorators), the module has to be imported anew, in a process of
its own.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType, ModuleType


class ImportedAnewError(Exception):
    """More differs than what functions do."""


class Functions:
    """All functions of one module's source that this process has, wherever they are kept."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._code = _compiled(path, source)
        self._found = [
            found
            for found in gc.get_objects()
            if isinstance(found, FunctionType) and found.__code__.co_filename.endswith(path)
        ]

    def become(self, mutated: str) -> None:
        """Exchange the code that differs; `ImportedAnewError` where that is not all."""
        if self._set_constant(mutated):
            return
        for before, after in _differing(self._code, _compiled(self._path, mutated)):
            held = [function for function in self._found if function.__code__ == before]
            if not held:
                raise ImportedAnewError(before.co_qualname)
            _exchange(held, after)
            for inner, mutated_inner in _inner(before, after):  # of decorators, made long ago
                _exchange([f for f in self._found if f.__code__ == inner], mutated_inner)

    def _set_constant(self, mutated: str) -> bool:
        """Whether all that differs is the value of one constant."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old, new = ast.parse(self._source), ast.parse(mutated)
        if len(old.body) != len(new.body):
            return False
        pairs = [(a, b) for a, b in zip(old.body, new.body, strict=True) if _text(a) != _text(b)]
        ((before, after),) = pairs
        name, value = _constant(before), _constant(after)
        if name is None or value is None or _is_used_at_import(old, name[0], before):
            return False
        module = sys.modules[self._path.removesuffix(".py").replace("/", ".")]
        held = getattr(module, name[0])
        now = eval(compile(ast.Expression(value[1]), self._path, "eval"), dict(vars(module)))
        for other in list(sys.modules.values()):
            if getattr(other, "__dict__", {}).get(name[0]) is held:
                setattr(other, name[0], now)
        return True


def _text(node: ast.AST) -> str:
    return ast.dump(node)


def _constant(node: ast.stmt) -> tuple[str, ast.expr] | None:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    return None


def _is_used_at_import(tree: ast.Module, name: str, defined: ast.stmt) -> bool:
    """Whether anything but the bodies of functions reads it."""
    waiting: list[ast.AST] = [statement for statement in tree.body if statement is not defined]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and node.id == name:
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, node.args]
        elif isinstance(node, ast.arg):
            continue  # its annotation is not evaluated
        elif isinstance(node, ast.AnnAssign):
            waiting += [node.value] if node.value else []
        else:
            waiting += ast.iter_child_nodes(node)
    return False


def _compiled(path: str, source: str) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `x is "literal"` is a mutant like others
        return compile(source, path, "exec", dont_inherit=True)


def _exchange(functions: Sequence[FunctionType], code: CodeType) -> None:
    for function in functions:
        try:
            function.__code__ = code.replace(co_filename=function.__code__.co_filename)
        except ValueError:  # of another number of variables from around it
            raise ImportedAnewError(code.co_qualname) from None


def _differing(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Outermost functions whose code differs; of modules and classes only their functions may."""
    if _without_functions(old) != _without_functions(new):
        raise ImportedAnewError(old.co_qualname)
    for before, after in zip(_codes(old), _codes(new), strict=True):
        if before == after:
            continue
        if _is_class_body(before):
            yield from _differing(before, after)
        else:
            yield before, after


def _inner(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Functions within a function that differ, where both have the same ones."""
    if len(_codes(old)) == len(_codes(new)):
        for before, after in zip(_codes(old), _codes(new), strict=True):
            if before != after:
                yield before, after
                yield from _inner(before, after)


def _is_class_body(code: CodeType) -> bool:
    return "__qualname__" in code.co_names and "__module__" in code.co_names


def _codes(code: CodeType) -> list[CodeType]:
    return [const for const in code.co_consts if isinstance(const, CodeType)]


def _without_functions(code: CodeType) -> tuple[object, ...]:
    consts = tuple(
        const.co_qualname if isinstance(const, CodeType) else (type(const), const)
        for const in code.co_consts
    )
    return code.co_code, consts, code.co_names, code.co_varnames


class Mutant(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module other text than its file has, whenever it is imported.

    To be put at the head of `sys.meta_path` before anything imports the module.
    """

    def __init__(self, module: str, path: str, mutated: str) -> None:
        self._module = module
        self._path = path
        self._mutated = mutated

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(_compiled(self._path, self._mutated), vars(module))

    def install(self) -> None:
        """Import no other text of it from here on."""
        assert self._module not in sys.modules, f"{self._module} is imported already"
        sys.meta_path.insert(0, self)

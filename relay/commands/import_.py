"""`relay import`: another gateway's configuration as one of ours, and what is not carried over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from relay.commands.new_files import FileFault, check_new_files, write_new_files
from relay.config import ConfigError, parse
from relay.importing import (
    Draft,
    ImportFault,
    Report,
    document_of,
    from_litellm,
    from_portkey,
    read_json,
    read_yaml,
    yaml_of,
)
from relay.importing.report import printable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Write another gateway's configuration as one of ours.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="their configuration; it is only read")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="a new file; else standard output")
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="write the report there too, in Markdown")
]
Force = Annotated[bool, typer.Option("--force", help="write over files that are there")]
Strict = Annotated[
    bool, typer.Option("--strict", help="exit status 1 when something was not carried over")
]

_LEFT_STATUS = 1
_FAULT_STATUS = 2


@app.command()
def litellm(
    file: File,
    output: Output = None,
    report: ReportFile = None,
    strict: Strict = False,
    force: Force = False,
) -> None:
    """From LiteLLM's proxy: its config.yaml.

    The new file goes to standard output, what could not be carried over to standard error. Keys
    that stand in their file become ${NAME}; no value of them is shown.
    """
    try:
        found = from_litellm(read_yaml(file), os.environ)
    except ImportFault as error:
        raise _fail(str(error)) from None
    _finish(*found, file, output, report, is_strict=strict, may_replace=force)


@app.command()
def portkey(
    file: File,
    output: Output = None,
    report: ReportFile = None,
    name: Annotated[str, typer.Option(help="alias that clients will ask for")] = "fast",
    strict: Strict = False,
    force: Force = False,
) -> None:
    """From Portkey's gateway: a config object in JSON, which becomes an alias.

    The new file goes to standard output, what could not be carried over to standard error. Keys
    that stand in their file become ${NAME}; no value of them is shown.
    """
    try:
        found = from_portkey(read_json(file), os.environ, name)
    except ImportFault as error:
        raise _fail(str(error)) from None
    _finish(*found, file, output, report, is_strict=strict, may_replace=force)


def _finish(
    draft: Draft,
    report: Report,
    read: Path,
    output: Path | None,
    report_file: Path | None,
    *,
    is_strict: bool,
    may_replace: bool,
) -> None:
    text, told = yaml_of(draft), report.to_text()
    try:
        parse(document_of(draft), report.stand_ins())
    except ConfigError as error:
        # What is written is not what the relay takes: that is our fault, not the file's.
        raise _fail(f"the new file would not be taken:\n{error}") from None
    pairs = ((output, text), (report_file, told))
    written = [(path, content) for path, content in pairs if path is not None]
    try:
        check_new_files([path for path, _ in written], read, may_replace=may_replace)
        write_new_files(dict(written))
    except FileFault as error:
        raise _fail(str(error)) from None
    if output is None:
        typer.echo(text, nl=False)
    typer.echo(told, err=True, nl=False)
    raise typer.Exit(_LEFT_STATUS if is_strict and report.left else 0)


def _fail(message: str) -> typer.Exit:
    typer.echo("\n".join(printable(line) for line in f"relay: {message}".split("\n")), err=True)
    return typer.Exit(_FAULT_STATUS)

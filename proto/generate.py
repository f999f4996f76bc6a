"""Generate the Python stubs of `rtrelay.v1` from the .proto files beside this file.

    .venv-proto/bin/python proto/generate.py                     # what `make proto` runs
    .venv-proto/bin/python proto/generate.py --out DIR           # stubs into DIR/rtrelay/v1
    .venv-proto/bin/python proto/generate.py --descriptors FILE  # a descriptor set, for buf

The same input gives the same bytes everywhere: the compiler and its plugins are hash-locked in
`requirements.lock`, files are named in sorted order, and no path or time gets into the output.
Stubs of messages that no longer exist are removed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import google.rpc
from grpc_tools import protoc  # type: ignore[import-not-found]  # in .venv-proto only

PROTO_DIR = Path(__file__).resolve().parent
CLIENT_DIR = PROTO_DIR.parent / "clients" / "python"
PACKAGE = "rtrelay/v1"


def include_args() -> list[str]:
    """Where imports are looked up: our own files, then google/rpc and google/protobuf.

    `google/rpc/*.proto` lie beside the Python modules of googleapis-common-protos,
    `google/protobuf/*.proto` inside grpcio-tools.
    """
    common_protos = Path(next(iter(google.rpc.__path__))).parents[1]
    well_known = Path(protoc.__file__).parent / "_proto"
    return [f"-I{PROTO_DIR}", f"-I{common_protos}", f"-I{well_known}"]


def plugin_args() -> list[str]:
    """The plugins of this very environment, whatever PATH says."""
    scripts = Path(sys.executable).parent
    return [
        f"--plugin={name}={shutil.which(name, path=str(scripts))}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]


def run(*args: str) -> None:
    """Run the compiler; SystemExit with its code if it fails."""
    code = protoc.main(["protoc", *include_args(), *plugin_args(), *args])
    if code != 0:
        sys.exit(code)


def generate(out: Path) -> list[Path]:
    """Write the stubs below `out` and return them, sorted."""
    sources = sorted(PROTO_DIR.joinpath(PACKAGE).glob("*.proto"))
    names = [source.relative_to(PROTO_DIR).as_posix() for source in sources]
    # Only a file with a service has gRPC stubs; the plugin would write empty ones for the others.
    with_service = [
        name
        for name, source in zip(names, sources, strict=True)
        if "\nservice " in source.read_text(encoding="utf-8")
    ]
    directory = out / PACKAGE
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*_pb2*"):
        stale.unlink()
    run(f"--python_out={out}", f"--mypy_out=quiet:{out}", *names)
    run(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *with_service)
    return sorted(directory.glob("*_pb2*"))


def write_descriptors(path: Path) -> None:
    """Write one descriptor set with all imports and comments."""
    sources = sorted(PROTO_DIR.joinpath(PACKAGE).glob("*.proto"))
    names = [source.relative_to(PROTO_DIR).as_posix() for source in sources]
    run("--include_imports", "--include_source_info", f"--descriptor_set_out={path}", *names)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Generate the stubs of rtrelay.v1.")
    parser.add_argument("--out", type=Path, default=CLIENT_DIR, help="root of the package tree")
    parser.add_argument(
        "--descriptors", type=Path, metavar="FILE", help="write a descriptor set instead"
    )
    args = parser.parse_args()
    if args.descriptors:
        write_descriptors(args.descriptors)
    else:
        generate(args.out)


if __name__ == "__main__":
    main()

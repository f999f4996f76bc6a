// Writes src/generated from ../../proto: `npm run proto`, or `node scripts/generate.js --out DIR`.
//
// The compiler is that of the repository's own stubs, hash-locked in proto/requirements.lock (`make
// proto` installs it into .venv-proto); the plugin is ts-proto of this package's lock. The same
// input gives the same bytes, and no path or version gets into the output.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const PACKAGE_DIR = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const REPOSITORY_DIR = path.resolve(PACKAGE_DIR, "../..");
const PYTHON = path.join(REPOSITORY_DIR, ".venv-proto/bin/python");
const OPTIONS = [
  "outputServices=grpc-js",
  "esModuleInterop=true",
  "importSuffix=.js",
  "useTypeImports=true",
  "oneof=unions-value",
  "enumsAsLiterals=true",
  "removeEnumPrefix=true",
  "outputJsonMethods=false",
  "useExactTypes=false",
  "annotateFilesWithVersion=false",
];
// The directories that proto/generate.py uses, and the files of ours with the details of errors.
const COMPILE = `
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import generate
names = sorted(p.relative_to(generate.PROTO_DIR).as_posix() for p in generate.PROTO_DIR.joinpath(generate.PACKAGE).glob("*.proto"))
sys.exit(generate.protoc.main(["protoc", *generate.include_args(), *sys.argv[2:], *names, "google/rpc/error_details.proto"]))
`;

/** Whether the compiler is installed. */
export const hasCompiler = () => existsSync(PYTHON);

/**
 * Writes the code into a directory, which is emptied before.
 *
 * @param {string} out
 */
export function generate(out) {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const plugin = path.join(PACKAGE_DIR, "node_modules/.bin/protoc-gen-ts_proto");
  const result = spawnSync(
    PYTHON,
    [
      "-c",
      COMPILE,
      path.join(REPOSITORY_DIR, "proto"),
      `--plugin=protoc-gen-ts_proto=${plugin}`,
      `--ts_proto_out=${out}`,
      `--ts_proto_opt=${OPTIONS.join(",")}`,
    ],
    {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" },
    },
  );
  if (result.status !== 0) {
    throw new Error(`the compiler failed (${result.error?.message ?? result.status})`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (!hasCompiler()) {
    console.error("no .venv-proto: run `make proto` in the repository first");
    process.exit(1);
  }
  const [flag, out] = process.argv.slice(2);
  generate(flag === "--out" && out ? path.resolve(out) : path.join(PACKAGE_DIR, "src/generated"));
}

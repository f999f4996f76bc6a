// The checked-in code is what the .proto files give.

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const packageDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { generate, hasCompiler } = await import(path.join(packageDir, "scripts/generate.js"));

async function contents(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of (await readdir(folder, { recursive: true })).sort()) {
    if (name.endsWith(".ts")) found[name] = await readFile(path.join(folder, name), "utf8");
  }
  return found;
}

const skip = hasCompiler()
  ? false
  : "no .venv-proto; `make install-dev` in the repository makes it";

test("the generated code is up to date", { skip }, async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "rtrelay-"));
  t.after(() => rm(folder, { recursive: true }));
  generate(folder);
  const [fresh, checkedIn] = await Promise.all(
    [folder, path.join(packageDir, "src/generated")].map(contents),
  );
  assert.deepEqual(Object.keys(fresh ?? {}), Object.keys(checkedIn ?? {}));
  assert.ok(Object.keys(fresh ?? {}).length > 0);
  for (const [name, text] of Object.entries(fresh ?? {})) {
    assert.ok(text === checkedIn?.[name], `${name} is stale: run \`npm run proto\``);
  }
});

// A real relay with the emulator behind it, from the program that RELAY_BIN names.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** Why tests with a relay cannot run; false if they can. */
export const noRelay: string | false = process.env.RELAY_BIN
  ? false
  : "RELAY_BIN does not name a relay (`make test-node` in the repository does)";

const BIN = process.env.RELAY_BIN ?? "";

/** An emulator, and relays to it; `stop` ends all. */
export class Lab {
  readonly #processes: ChildProcess[] = [];
  #folder = "";
  #provider = "";

  static async start(): Promise<Lab> {
    const lab = new Lab();
    lab.#folder = await mkdtemp(path.join(tmpdir(), "rtrelay-"));
    const emulator = lab.#spawn(["emulate", "--port", "0", "--cert-dir", lab.#folder]);
    const ready = await jsonLine(emulator.stdout, (line) => line.ready === true);
    lab.#provider = JSON.stringify({
      wire: "openai_chat",
      base_url: `https://127.0.0.1:${ready.tls_port}/v1`,
      ca_file: ready.ca_file,
      auth: "none",
    });
    return lab;
  }

  /** Another relay: where it listens, and its process. */
  async relay(): Promise<{ address: string; process: ChildProcess }> {
    const file = path.join(this.#folder, `relay-${this.#processes.length}.yaml`);
    const free = '{address: "127.0.0.1:0"}';
    const server = `{grpc: ${free}, http: ${free}, admin: ${free}, drain_grace_ms: 5000}`;
    await writeFile(file, `server: ${server}\nproviders: {lab: ${this.#provider}}\n`);
    const relay = this.#spawn(["serve", "-c", file]);
    const line = await jsonLine(relay.stderr, (found) => found.event === "serving");
    return { address: `127.0.0.1:${line.grpc}`, process: relay };
  }

  #spawn(args: string[]): ChildProcess & { stdout: Readable; stderr: Readable } {
    const child = spawn(BIN, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#processes.push(child);
    return child;
  }

  async stop(): Promise<void> {
    for (const child of this.#processes) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    await rm(this.#folder, { recursive: true });
  }
}

/** The first line of JSON that is as wanted; what comes after it is read and dropped. */
function jsonLine(
  output: Readable,
  isWanted: (line: Record<string, unknown>) => boolean,
): Promise<Record<string, unknown>> {
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    const reader = createInterface({ input: output });
    reader.on("line", (text) => {
      lines.push(text);
      const line = parsed(text);
      if (line && isWanted(line)) resolve(line);
    });
    reader.on("close", () =>
      reject(new Error(`it ended before it was ready:\n${lines.join("\n")}`)),
    );
  });
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

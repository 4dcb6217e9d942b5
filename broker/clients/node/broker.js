// A broker of one's own: on free ports, in a folder of its own, gone at the end.
// The binary is what TENPIN_BINARY says.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export async function startBroker() {
  const folder = await mkdtemp(join(tmpdir(), "tenpin-clients-"));
  const child = spawn(
    process.env.TENPIN_BINARY,
    ["serve", "--data-dir", join(folder, "data"), "--listen", "127.0.0.1:0", "--sqs-listen", "127.0.0.1:0"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const endpoint = await new Promise((resolve, reject) => {
    ended.then((status) => reject(new Error(`the broker ended with status ${status}`)));
    createInterface(child.stdout).on("line", (line) => {
      const found = /SQS endpoint (http:\/\/\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
  const stop = async () => {
    child.kill("SIGTERM");
    const status = await ended;
    await rm(folder, { recursive: true });
    if (status !== 0) throw new Error(`the broker ended with status ${status}`);
  };
  return { endpoint, stop };
}

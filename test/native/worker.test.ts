import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";

const ADDON = fileURLToPath(new URL("../../build/Release/tun2socks.node", import.meta.url));

/** Reserves, polls and watches sockets of every kind, then says so; ends as `ending` says. */
const BUSY = (ending: string): string => `
  const { parentPort } = require("node:worker_threads");
  const native = require(${JSON.stringify(ADDON)});
  new Uint8Array(native.reserve(64 << 20)).fill(1, 0, 1 << 20);
  const seen = [];
  native.pollStart(new Int32Array(64), (count) => seen.push(count));
  const address = Int32Array.of(0, 0, 0xffff, 0x7f000001, 0);
  const listener = native.tcpListen(address, 8);
  native.localAddress(listener, address);
  const client = native.tcpConnect(address, 0, "", 0);
  const udp = native.udpOpen(Int32Array.of(0, 0, 0, 1, 0), true, 0, "");
  native.recvBatch(udp, new Int32Array(80), 0, 1 << 20);
  for (const fd of [listener, client, udp]) {
    if (native.pollAdd(fd, fd, 1) !== 0) throw new Error("pollAdd");
  }
  if (parentPort) parentPort.postMessage("ready");
  ${ending}
`;

function descriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function runWorker(ending: string, terminate: boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(BUSY(ending), { eval: true });
    worker.on("error", reject);
    worker.on("exit", resolve);
    if (terminate) worker.on("message", () => worker.terminate());
  });
}

test.each([
  ["exits by itself", "process.exit(0)", false, 0],
  ["is terminated while its sockets are watched", "", true, 1],
  ["is terminated in an endless loop", "for (;;) {}", true, 1],
  ["stops its poll and has nothing left to wait for", "native.pollStop()", false, 0],
])("a worker that %s leaves no descriptor behind", async (_, ending, terminate, status) => {
  await runWorker(ending, terminate);
  const before = descriptors();
  for (let i = 0; i < 5; i++) expect(await runWorker(ending, terminate)).toBe(status);
  expect(descriptors()).toBe(before);
});

test("two workers have memories of their own", async () => {
  await Promise.all([runWorker("process.exit(0)", false), runWorker("process.exit(0)", false)]);
});

function runProcess(ending: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ["-e", BUSY(ending)], { encoding: "utf8", timeout: 15_000 });
}

test("a process whose last watched descriptor is removed ends by itself", () => {
  const { status, stdout } = runProcess(
    `for (const fd of [listener, client, udp]) native.close(fd);
     process.on("exit", () => console.log("ended"));`,
  );
  expect([status, stdout]).toEqual([0, "ended\n"]);
});

test("an exception in a callback is an uncaughtException, and ticks of callbacks run", () => {
  const { status, stdout } = runProcess(
    `native.pollStop();
     process.on("uncaughtException", (error) => console.log("caught", error.message));
     let calls = 0;
     native.pollStart(new Int32Array(2), () => {
       if (calls++ === 0) throw new Error("first");
       process.nextTick(() => console.log("tick"));
       Promise.resolve().then(() => console.log("microtask"));
       native.pollStop();
     });
     native.pollAdd(listener, 1, 1);`,
  );
  expect([status, stdout]).toEqual([0, "caught first\ntick\nmicrotask\n"]);
});

test("without a handler that exception ends the process with its stack", () => {
  const { status, stderr } = runProcess(
    `native.pollStop();
     native.pollStart(new Int32Array(2), () => { throw new Error("unhandled"); });
     native.pollAdd(listener, 1, 1);`,
  );
  expect(status).toBe(1);
  expect(stderr).toContain("Error: unhandled");
});

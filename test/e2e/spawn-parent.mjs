// The process that the tests of spawning start, watch and kill. It opens a namespace, runs the command
// in it, and reports on descriptor 3, one JSON object a line. argv[2] is the directory of the built
// package, argv[3] the plan: { mode, options } with the options of openNamespace(), or of the addon's
// spawn() in mode "raw".

import { execFileSync, spawn } from "node:child_process";
import { closeSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";

const [, , root, text] = process.argv;
const { mode, options } = JSON.parse(text);
const { commandFailure, exitCode, openNamespace } = await import(`${root}/dist/host/namespace.js`);
const { addon } = await import(`${root}/dist/native/binding.js`);

const MODES = {
  /** Runs the command and ends as it did. */
  async run() {
    const namespace = open();
    const end = await namespace.run();
    report("exit", end);
    process.exit(exitCode(end));
  },

  /** The same after Node made standard input non-blocking. */
  async touched() {
    process.stdin.pause();
    const flags = /^flags:\s*(\d+)/m.exec(readFileSync("/proc/self/fdinfo/0", "utf8"))[1];
    report("before", { nonBlocking: (Number.parseInt(flags, 8) & 0o4000) !== 0 });
    await MODES.run();
  },

  /** The same where the supervisor may not fork. */
  async starved() {
    const namespace = open();
    execFileSync("prlimit", [`--pid=${namespace.pid}`, "--nproc=0:0"]);
    const end = await namespace.run();
    report("exit", end);
    report("failure", commandFailure("true", end));
    process.exit(exitCode(end));
  },

  /** The same with the addon's own options, given in full. */
  async raw() {
    const { pid, tun, warnings } = addon().spawn(options);
    report("open", { pid, tun, warnings });
    addon().spawnGo((end) => {
      report("exit", end);
      process.exit(exitCode(end));
    });
  },

  /** Opens and runs, again and again, while somebody sends SIGUSR2 without end. */
  async storm() {
    const begun = new Promise((resolve) => process.on("SIGUSR2", resolve));
    const storm = spawn("perl", ["-e", `1 while kill "USR2", ${process.pid}`]);
    await begun;
    const ends = [];
    for (let i = 0; i < 30; i++) ends.push(await open().run());
    storm.kill();
    report("storm", { ends });
  },

  /** Leaves with process.exit() as soon as a line arrives on standard input. */
  async leave() {
    void open().run();
    readSync(0, Buffer.alloc(16));
    process.exit(3);
  },

  /** Kills what runs inside when a line arrives on standard input. */
  async close() {
    const namespace = open();
    const ended = namespace.run();
    process.stdin.once("data", () => {
      namespace.close();
      namespace.close();
      process.stdin.destroy();
    });
    report("exit", await ended);
    report("after", { signalled: namespace.signal(15) });
  },

  /** Passes the number on standard input on as a signal. */
  async signal() {
    const namespace = open();
    const ended = namespace.run();
    process.stdin.once("data", (data) => {
      namespace.signal(Number(data));
      process.stdin.destroy();
    });
    report("exit", await ended);
  },

  /** Opens, gives up, opens again and runs, three times; then counts what is left. */
  async repeat() {
    await once();
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 3; i++) await once();
    report("left", {
      descriptors: readdirSync("/proc/self/fd").length - before,
      children: children(),
    });
  },

  /** A refusal, and what it leaves behind. */
  async refused() {
    const before = readdirSync("/proc/self/fd").length;
    let error = {};
    try {
      openNamespace(options).close();
    } catch (thrown) {
      error = { code: thrown.code, message: thrown.message };
    }
    report("refused", {
      ...error,
      descriptors: readdirSync("/proc/self/fd").length - before,
      children: children(),
    });
  },

  /** Out of place: twice, and in a worker. */
  async misuse() {
    const namespace = open();
    const codes = [failure(() => openNamespace(options))];
    namespace.close();
    codes.push(failure(() => addon().spawnGo(() => {})));
    report("misuse", { codes });
    const worker = new Worker(
      `const { openNamespace } = await import("${root}/dist/host/namespace.js");
       const { parentPort, workerData } = await import("node:worker_threads");
       try { openNamespace(workerData); parentPort.postMessage("opened"); }
       catch (error) { parentPort.postMessage(error.message); }`
        .replace(/^/, "(async () => {")
        .concat("})()"),
      { eval: true, workerData: options },
    );
    const [message] = await new Promise((resolve) =>
      worker.once("message", (...values) => resolve(values)),
    );
    report("worker", { message });
    await worker.terminate();
  },

  /** Reads packets from the TUN while the command runs. */
  async packets() {
    const namespace = open();
    const packets = [];
    const buffer = Buffer.alloc(66_000);
    const poll = setInterval(() => {
      for (let i = 0; i < 64; i++) {
        try {
          packets.push(buffer.toString("hex", 10, readSync(namespace.tun.fd, buffer)));
        } catch {
          return;
        }
      }
    }, 5);
    const end = await namespace.run();
    clearInterval(poll);
    report("packets", { packets });
    report("exit", end);
  },
};

function open() {
  const namespace = openNamespace(options);
  const { pid, tun, warnings } = namespace;
  report("open", { pid, tun, warnings });
  return namespace;
}

async function once() {
  for (const run of [false, true]) {
    const namespace = openNamespace(options);
    if (run) await namespace.run();
    namespace.close();
    for (const { fd } of namespace.queues) closeSync(fd);
  }
}

function failure(call) {
  try {
    call();
    return null;
  } catch (error) {
    return error.code;
  }
}

function children() {
  let count = 0;
  for (const task of readdirSync("/proc/self/task")) {
    count += readFileSync(`/proc/self/task/${task}/children`, "utf8").split(" ").length - 1;
  }
  return count;
}

function report(event, value = {}) {
  writeSync(3, `${JSON.stringify({ event, ...value })}\n`);
}

await MODES[mode]();

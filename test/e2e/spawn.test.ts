/**
 * Spawning for real: namespaces, signals, descriptors and death, as root and as an ordinary user.
 *
 * Each test starts spawn-parent.mjs, so that the parent can be killed and has a terminal, standard
 * descriptors and credentials of its own. The ordinary user works from a copy of the built package that
 * everybody may read, with a copy of the device node that everybody may open.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const PARENT = "spawn-parent.mjs";
const running = new Set<Parent>();
let install = "";
/** Not under /tmp, which may be mounted nodev. */
let nodes = "";
let node = "";

beforeAll(() => {
  install = mkdtempSync(join(tmpdir(), "tun2socks-spawn-"));
  chmodSync(install, 0o755);
  cpSync(join(REPOSITORY, "dist"), join(install, "dist"), { recursive: true });
  mkdirSync(join(install, "build/Release"), { recursive: true });
  cpSync(
    join(REPOSITORY, "build/Release/tun2socks.node"),
    join(install, "build/Release/tun2socks.node"),
  );
  cpSync(join(import.meta.dirname, PARENT), join(install, PARENT));
  writeFileSync(join(install, "package.json"), '{"type":"module"}');
  execFileSync("chmod", ["-R", "a+rX", install]);
  nodes = mkdtempSync("/dev/tun2socks-spawn-");
  chmodSync(nodes, 0o755);
  node = join(nodes, "tun");
  execFileSync("mknod", ["-m", "0666", node, "c", "10", "200"]);
});

afterEach(() => {
  for (const parent of running) parent.kill("SIGKILL");
  running.clear();
});

afterAll(() => {
  rmSync(install, { recursive: true, force: true });
  rmSync(nodes, { recursive: true, force: true });
});

type Options = Record<string, unknown> & { command: string[] };

interface Report {
  readonly event: string;
  readonly [name: string]: unknown;
}

/** What stands before the parent's argv, or makes a command of it. */
type Wrapper = readonly string[] | ((argv: readonly string[]) => readonly string[]);

/** Descriptors 0 to 2 are pipes to the test. */
class Parent {
  readonly child: ChildProcess;
  readonly reports: Report[] = [];
  stdout = "";
  stderr = "";
  /** Exit status; null: a signal ended it. */
  readonly ended: Promise<number | null>;

  constructor(mode: string, options: Options, wrapper: Wrapper = []) {
    const plan = JSON.stringify({ mode, options });
    const plain = [process.execPath, join(install, PARENT), install, plan];
    const argv = typeof wrapper === "function" ? wrapper(plain) : [...wrapper, ...plain];
    this.child = spawn(argv[0]!, argv.slice(1), {
      cwd: "/",
      env: { ...process.env, SHELL: "/bin/sh" },
      stdio: ["pipe", "pipe", "pipe", "pipe"],
    });
    let pending = "";
    this.child.stdio[3]!.on("data", (data: Buffer) => {
      const lines = (pending + data).split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) this.reports.push(JSON.parse(line));
    });
    this.child.stdout!.on("data", (data: Buffer) => {
      this.stdout += data;
    });
    this.child.stderr!.on("data", (data: Buffer) => {
      this.stderr += data;
    });
    this.ended = new Promise((done) => this.child.on("close", (status) => done(status)));
    running.add(this);
  }

  get(event: string): Report {
    const report = this.reports.find((candidate) => candidate.event === event);
    if (report === undefined) throw new Error(`no "${event}" reported; stderr: ${this.stderr}`);
    return report;
  }

  kill(signal: NodeJS.Signals): void {
    if (this.child.exitCode === null) this.child.kill(signal);
  }

  async until(what: string, condition: () => boolean, limit = 5000): Promise<void> {
    await until(`${what}; stdout: ${this.stdout}; stderr: ${this.stderr}`, condition, limit);
  }
}

async function until(what: string, condition: () => boolean, limit = 5000): Promise<void> {
  const deadline = Date.now() + limit;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${limit} ms: ${what}`);
    await delay(5);
  }
}

async function run(options: Options, wrapper: Wrapper = [], mode = "run"): Promise<Parent> {
  const parent = new Parent(mode, options, wrapper);
  parent.child.stdin!.end();
  await parent.ended;
  return parent;
}

function shell(script: string, extra: Record<string, unknown> = {}): Options {
  return { command: ["bash", "-c", script], ...extra };
}

/** Processes in the network namespace `link` ("net:[…]"). */
function members(link: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === link;
    } catch {
      return false;
    }
  });
}

const ORDINARY: readonly string[] = [
  ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
  ...["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"],
];

describe.each([
  ["as root", [] as readonly string[], false],
  ["as an ordinary user without capabilities", ORDINARY, true],
])("%s", (_, wrapper, ordinary) => {
  const device = (): Record<string, unknown> => (ordinary ? { device: node } : {});

  test("the command's status is reported and becomes ours", async () => {
    const parent = await run(shell("exit 7", device()), wrapper);
    expect(parent.get("exit")).toMatchObject({ status: 7, signal: 0, execErrno: 0 });
    expect(await parent.ended).toBe(7);
    expect(parent.get("open")["warnings"]).toEqual([]);
  });

  test("standard input, output and error are the invoker's", async () => {
    const parent = new Parent("run", shell("cat; echo err >&2", device()), wrapper);
    parent.child.stdin!.end("through");
    expect(await parent.ended).toBe(0);
    expect(parent.stdout).toBe("through");
    expect(parent.stderr).toBe("err\n");
  });

  test("the network inside is loopback and one TUN with addresses and default routes", async () => {
    const parent = await run(
      shell(
        "ip -br link | awk '{print $1}'; ip -o addr; ip route; ip -6 route; ip link show tun0",
        device(),
      ),
      wrapper,
    );
    expect(parent.stdout).toMatch(/^lo\ntun0\n/);
    expect(parent.stdout).toContain("127.0.0.1/8");
    expect(parent.stdout).toContain("inet 198.18.0.1/15");
    expect(parent.stdout).toContain("inet6 fd00:18::1/64");
    expect(parent.stdout).toMatch(/^default dev tun0 scope link/m);
    expect(parent.stdout).toMatch(/^default dev tun0 metric/m);
    expect(parent.stdout).toMatch(/mtu 1500 .*qlen 1000/);
    const tun = parent.get("open")["tun"] as Record<string, unknown>;
    expect(tun).toMatchObject({ name: "tun0", created: true, vnetHeader: true, mtu: 1500 });
    expect(tun["offload"]).not.toBe(0);
  });

  test("resolv.conf and nsswitch.conf inside are ours, outside nothing changes", async () => {
    const before = ["/etc/resolv.conf", "/etc/nsswitch.conf"].map((path) => readFileSync(path));
    const mounts = readFileSync("/proc/self/mountinfo", "utf8");
    const parent = await run(
      shell("cat /etc/resolv.conf; grep ^hosts /etc/nsswitch.conf", device()),
      wrapper,
    );
    expect(parent.stdout).toBe("nameserver 198.18.0.3\nhosts: files dns\n");
    expect(["/etc/resolv.conf", "/etc/nsswitch.conf"].map((path) => readFileSync(path))).toEqual(
      before,
    );
    expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(mounts);
  });

  test("processes inside see themselves only, and cannot look into pid 1", async () => {
    const parent = await run(
      shell("cd /proc; echo [0-9]*; cat /proc/1/environ 2>/dev/null; exit 0", device()),
      wrapper,
    );
    // Root keeps CAP_SYS_PTRACE and may look.
    if (ordinary) expect(parent.stdout).toBe("1 2\n");
    else expect(parent.stdout).toMatch(/^1 2\n/);
  });

  test("what is bound lands on the name itself, even a link into a hidden directory", async () => {
    const directory = mkdtempSync(join(install, "bind-"));
    execFileSync("chmod", ["0777", directory]);
    mkdirSync(join(directory, "hidden"));
    writeFileSync(join(directory, "hidden/real"), "host\n");
    symlinkSync("hidden/real", join(directory, "link"));
    symlinkSync("nowhere", join(directory, "dangling"));
    const content = "ours\n";
    const parent = new Parent(
      "raw",
      rawOptions(`cd ${directory}; cat link dangling; ls -A hidden; : >hidden/x; exit 0`, {
        device: ordinary ? node : "/dev/net/tun",
        files: ["link", "dangling", "missing"].map((name) => ({
          path: join(directory, name),
          content,
        })),
        hide: [join(directory, "hidden"), join(directory, "absent")],
      }),
      wrapper,
    );
    await parent.ended;
    expect(parent.stdout).toBe("ours\nours\n");
    expect(parent.stderr).toContain("Read-only file system");
    expect(parent.get("open")["warnings"]).toEqual([`bind ${join(directory, "missing")}: ENOENT`]);
    expect(readFileSync(join(directory, "hidden/real"), "utf8")).toBe("host\n");
  });

  test("a signal sent to us by a process reaches the command, and nobody dies of it", async () => {
    for (const name of ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"] as const) {
      const script = `trap 'echo ${name}; exit 3' ${name}; echo ready; for i in {1..200}; do sleep .05; done`;
      const parent = new Parent("run", shell(script, device()), wrapper);
      await parent.until("ready", () => parent.stdout.includes("ready"));
      parent.kill(`SIG${name}`);
      expect(await parent.ended).toBe(3);
      expect(parent.stdout).toBe(`ready\n${name}\n`);
      expect(parent.stderr).toBe("");
    }
  });

  test("kill -9 of ours ends every process inside within a second", async () => {
    const script =
      "readlink /proc/self/ns/net; sleep 1000 & setsid sleep 1000 & echo ready; sleep 1000; exit";
    const parent = new Parent("run", shell(script, device()), wrapper);
    await parent.until("ready", () => parent.stdout.includes("ready"));
    const link = parent.stdout.split("\n")[0]!;
    // The supervisor, bash, and three times sleep.
    await until("five processes", () => members(link).length === 5);
    parent.kill("SIGKILL");
    await until("an empty namespace", () => members(link).length === 0, 1000);
    expect(await parent.ended).toBe(null);
  });

  test("a refusal leaves no process and no descriptor behind", async () => {
    const parent = new Parent("refused", shell("true", { device: "/nonexistent/tun" }), wrapper);
    await parent.ended;
    expect(parent.get("refused")).toMatchObject({
      code: "ERR_TUN_MISSING",
      message: expect.stringContaining("cannot open /nonexistent/tun"),
      descriptors: 0,
      children: 0,
    });
  });

  test.each([1, 16])(
    "opening %i queues, giving up and running again and again leaves nothing behind",
    async (queues) => {
      const parent = new Parent("repeat", shell("true", { ...device(), queues }), wrapper);
      await parent.ended;
      expect(parent.get("left")).toMatchObject({ descriptors: 0, children: 0 });
    },
  );

  test.each([0, 17])("%i queues are refused, and nothing is left behind", async (queues) => {
    const parent = new Parent("refused", shell("true", { ...device(), queues }), wrapper);
    await parent.ended;
    expect(parent.get("refused")).toMatchObject({
      message: expect.stringContaining("EINVAL"),
      descriptors: 0,
      children: 0,
    });
  });
});

function rawOptions(script: string, extra: Record<string, unknown>): Options {
  return {
    ...{ tunName: "tun0", mtu: 1500, txQueueLength: 1000, offload: 0, vnetHeader: false },
    ...{ ipv4: "198.18.0.1", ipv4Prefix: 15, ipv6: "fd00:18::1", ipv6Prefix: 64 },
    ...{ device: "/dev/net/tun", files: [], hide: [], nofileSoft: 1024 },
    command: ["bash", "-c", script],
    env: [`PATH=${process.env["PATH"]}`],
    ...extra,
  };
}

describe("an ordinary user", () => {
  test("keeps uid and gid, and the command has no capability", async () => {
    const parent = await run(
      shell("id -u; id -g; grep -E '^Cap(Eff|Prm|Inh|Amb)' /proc/self/status", { device: node }),
      ORDINARY,
    );
    const none = "0000000000000000";
    expect(parent.stdout.replace(/\t/g, "")).toBe(
      `65534\n65534\nCapInh:${none}\nCapPrm:${none}\nCapEff:${none}\nCapAmb:${none}\n`,
    );
  });

  test("who may have no more processes ends with 125 and the limit's name", async () => {
    const parent = new Parent("starved", shell("exit 0", { device: node }), ORDINARY);
    expect(await parent.ended).toBe(125);
    expect(parent.get("exit")).toMatchObject({ execErrno: 0, startErrno: constants.errno.EAGAIN });
    expect(parent.get("failure")).toMatchObject({ code: "ERR_NAMESPACE" });
  });

  test("is told which mode of the node keeps him out", async () => {
    const closed = join(nodes, "closed");
    execFileSync("mknod", ["-m", "0600", closed, "c", "10", "200"]);
    const parent = new Parent("refused", shell("true", { device: closed }), ORDINARY);
    await parent.ended;
    expect(parent.get("refused")).toMatchObject({
      code: "ERR_TUN_PERMISSION",
      message: expect.stringContaining("uid 65534 (mode 0600)"),
      descriptors: 0,
      children: 0,
    });
  });
});

describe("the command", () => {
  test.each([
    ["KILL", 137],
    ["TERM", 143],
    ["SEGV", 139],
  ])("killed by SIG%s ends us with %i", async (name, status) => {
    const parent = await run(shell(`ulimit -c 0; kill -${name} $$`));
    expect(await parent.ended).toBe(status);
    expect(parent.get("exit")).toMatchObject({ status: -1, signal: status - 128 });
  });

  test("that does not exist ends us with 127, whether searched or given by path", async () => {
    for (const name of ["tun2socks-no-such-command", "/nonexistent/command", ""]) {
      const parent = await run({ command: [name] });
      expect(await parent.ended).toBe(127);
      expect(parent.get("exit")).toMatchObject({ status: -1, signal: 0, execErrno: 2 });
    }
  });

  test("that cannot be executed ends us with 126", async () => {
    const file = join(install, "plain");
    writeFileSync(file, "no program", { mode: 0o644 });
    for (const name of [file, "/tmp"]) {
      const parent = await run({ command: [name] });
      expect(await parent.ended).toBe(126);
      expect(parent.get("exit")).toMatchObject({ execErrno: 13 });
    }
  });

  test("is searched in PATH of its own environment, past files it may not run, as execvp(3)", async () => {
    for (const [directory, mode, text] of [
      ["first", 0o644, "#!/bin/sh\necho first"],
      ["second", 0o755, "echo second $0 $1"],
    ] as const) {
      mkdirSync(join(install, directory));
      writeFileSync(join(install, directory, "tool"), text, { mode });
    }
    const env = { PATH: `${install}/first:/nonexistent:${install}/second:/bin` };
    const parent = await run({ command: ["tool", "argument"], env });
    expect(parent.stdout).toBe(`second ${install}/second/tool argument\n`);
    const denied = await run({ command: ["tool"], env: { PATH: `${install}/first:/nonexistent` } });
    expect(await denied.ended).toBe(126);
  });

  test("gets the soft descriptor limit of whoever started us", async () => {
    const parent = await run(shell("ulimit -Sn"), [
      ...["sh", "-c", 'ulimit -Sn 777; "$@"; exit $?', "sh"],
    ]);
    expect(parent.stdout).toBe("777\n");
  });

  test("gets signals that came while it was started", async () => {
    const parent = await run({ command: ["sleep", "10"] }, [], "storm");
    const ends = parent.get("storm")["ends"];
    expect(ends).toEqual(
      Array.from({ length: 30 }, () => ({
        status: -1,
        signal: constants.signals.SIGUSR2,
        execErrno: 0,
        startErrno: 0,
      })),
    );
  });

  test("starts with default signal dispositions, an empty mask and descriptors 0 to 2 only", async () => {
    const parent = await run({
      command: ["sh", "-c", "exec grep -E '^Sig(Blk|Ign)' /proc/self/status"],
    });
    expect(parent.stdout.replace(/\t/g, "")).toBe(
      "SigBlk:0000000000000000\nSigIgn:0000000000000000\n",
    );
    const descriptors = await run({ command: ["ls", "/proc/self/fd"] });
    expect(descriptors.stdout).toBe("0\n1\n2\n3\n");
  });

  test("finds its standard descriptors blocking, whatever Node made of them", async () => {
    const parent = new Parent("touched", shell("cat /proc/self/fdinfo/0; echo done"));
    await parent.ended;
    const flags = Number.parseInt(/^flags:\s*(\d+)/m.exec(parent.stdout)![1]!, 8);
    expect(parent.get("before")["nonBlocking"]).toBe(true);
    expect(flags & 0o4000).toBe(0);
  });

  test("has no proxy variables unless they are kept", async () => {
    const env = { PATH: process.env["PATH"], all_proxy: "socks5://127.0.0.1", KEPT: "yes" };
    const script = "echo $all_proxy $KEPT";
    expect((await run(shell(script, { env }))).stdout).toBe("yes\n");
    expect((await run(shell(script, { env, keepEnv: true }))).stdout).toBe(
      "socks5://127.0.0.1 yes\n",
    );
  });

  test("finds the names it was given in /etc/hosts, after the host's own", async () => {
    const hosts = ["198.18.0.2 host.tun2socks.internal"];
    const parent = await run({ command: ["cat", "/etc/hosts"], hosts });
    expect(parent.stdout).toBe(`${readFileSync("/etc/hosts", "utf8").trimEnd()}\n${hosts[0]}\n`);
  });

  test("that ends takes its background processes with it before we end", async () => {
    const parent = await run(shell("readlink /proc/self/ns/net; setsid sleep 1000 & exit 4"));
    expect(await parent.ended).toBe(4);
    expect(members(parent.stdout.trim())).toEqual([]);
  });

  test("sends packets that arrive on the descriptor that was passed", async () => {
    const parent = new Parent("packets", shell("echo -n marker >/dev/udp/192.0.2.7/9; sleep .2"));
    parent.child.stdin!.end();
    await parent.ended;
    const packets = parent.get("packets")["packets"] as string[];
    const payload = Buffer.from("marker").toString("hex");
    const sent = packets.filter((packet) => packet.endsWith(payload));
    expect(sent).toHaveLength(1);
    // Source 198.18.0.1, destination 192.0.2.7 (RFC 791 §3.1).
    expect(sent[0]!.slice(24, 40)).toBe("c6120001c0000207");
  });
});

describe("the parent", () => {
  test("that calls process.exit() leaves nobody behind", async () => {
    const parent = new Parent("leave", shell("readlink /proc/self/ns/net; sleep 1000"));
    await parent.until("started", () => parent.stdout.includes("net:"));
    const link = parent.stdout.trim();
    expect(members(link).length).toBeGreaterThan(0);
    parent.child.stdin!.write("\n");
    expect(await parent.ended).toBe(3);
    expect(members(link)).toEqual([]);
  });

  test("that closes the namespace hears of the end by SIGKILL, once", async () => {
    const parent = new Parent("close", shell("readlink /proc/self/ns/net; sleep 1000 <&-"));
    await parent.until("started", () => parent.stdout.includes("net:"));
    parent.child.stdin!.write("\n");
    expect(await parent.ended).toBe(0);
    expect(parent.reports.filter(({ event }) => event === "exit")).toEqual([
      { event: "exit", status: -1, signal: 9, execErrno: 0, startErrno: 0 },
    ]);
    expect(parent.get("after")).toMatchObject({ signalled: false });
    expect(members(parent.stdout.trim())).toEqual([]);
  });

  test("sends the command a signal of its choice", async () => {
    const script = "trap 'exit 5' USR2; echo ready; for i in {1..200}; do sleep .05; done";
    const parent = new Parent("signal", shell(script));
    await parent.until("ready", () => parent.stdout.includes("ready"));
    parent.child.stdin!.write("12");
    await parent.ended;
    expect(parent.get("exit")).toMatchObject({ status: 5 });
  });

  test("is refused a second namespace, a command without one, and a worker's call", async () => {
    const parent = new Parent("misuse", shell("true"));
    await parent.ended;
    expect(parent.get("misuse")["codes"]).toEqual(["ERR_INTERNAL", "ESRCH"]);
    expect(parent.get("worker")["message"]).toContain("spawn outside the main thread: EPERM");
  });

  test("whose supervisor is killed reports SIGKILL", async () => {
    const parent = new Parent("run", shell("echo ready; sleep 1000"));
    await parent.until("ready", () => parent.stdout.includes("ready"));
    process.kill(parent.get("open")["pid"] as number, "SIGKILL");
    expect(await parent.ended).toBe(137);
  });
});

describe("job control", () => {
  test("kill -TSTP stops the command and us, kill -CONT continues both", async () => {
    // A job as a shell makes it, a group of its own beside its parent's: an orphaned group does not stop.
    const perl =
      'my $pid = fork; if (!$pid) { setpgrp(0, 0); exec @ARGV } $| = 1; print "job $pid\\n"; waitpid $pid, 0';
    const job = ["perl", "-e", perl];
    const script = "echo ready; while sleep .02; do echo tick; done";
    const parent = new Parent("run", shell(script), job);
    await parent.until("ready", () => parent.stdout.includes("ready"));
    const pid = Number(/^job (\d+)$/m.exec(parent.stdout)![1]);
    process.kill(pid, "SIGTSTP");
    await until("stopped", () => state(pid) === "T");
    await until("quiet", quiet(parent));
    process.kill(pid, "SIGCONT");
    const before = parent.stdout.length;
    await parent.until("more ticks", () => parent.stdout.length > before + 10);
    expect(state(pid)).not.toBe("T");
    process.kill(pid, "SIGKILL");
    await parent.ended;
  });

  test("Ctrl-C of a terminal reaches the command once, and not us", async () => {
    const script =
      "trap 'echo got INT' INT; echo ready; for i in {1..20}; do sleep .05; done; exit 6";
    const parent = terminal(shell(script));
    await parent.until("ready", () => parent.stdout.includes("ready"));
    parent.child.stdin!.write("\x03");
    await parent.ended;
    expect(parent.stdout).toContain("status 6");
    expect(parent.stdout.match(/got INT/g)).toHaveLength(1);
  });

  test("Ctrl-Z of a terminal stops the job, fg continues it", async () => {
    const parent = terminal(
      shell("echo ready; while sleep .02; do echo tick; done"),
      'set -m; "$@"; echo stopped $?; fg; exit 9',
    );
    await parent.until("ready", () => parent.stdout.includes("ready"));
    parent.child.stdin!.write("\x1a");
    await parent.until("stopped", () => parent.stdout.includes("stopped 148"));
    const before = parent.stdout.length;
    await parent.until("more ticks", () => parent.stdout.length > before + 200);
    parent.child.stdin!.write("\x03");
    expect(await parent.ended).toBe(9);
  });

  test("a command that stops itself stops us too, so that the shell has its terminal back", async () => {
    const parent = terminal(
      shell("kill -STOP $$; echo resumed; exit 5"),
      'set -m; "$@"; echo stopped $?; fg; echo ended $?',
    );
    expect(await parent.ended).toBe(0);
    expect(parent.stdout).toMatch(/stopped 148\b[\s\S]*resumed\b[\s\S]*ended 5\b/);
  });

  test("an interactive shell inside may be suspended; fg gives it the terminal again", async () => {
    const parent = terminal(
      { command: ["bash", "--norc", "-i"] },
      'set -m; "$@"; echo stopped $?; fg; echo ended $?',
    );
    await parent.until("prompt", () => parent.stdout.includes("bash-"));
    parent.child.stdin!.write("suspend\n");
    await parent.until("stopped", () => parent.stdout.includes("stopped 148"));
    parent.child.stdin!.write("echo in$((1+1))side; exit 7\n");
    expect(await parent.ended).toBe(0);
    expect(parent.stdout).toMatch(/in2side[\s\S]*ended 7\b/);
  });

  test("an interactive shell inside gives the terminal back to whoever started us", async () => {
    const parent = terminal(
      { command: ["bash", "--norc", "-i"] },
      '"$@"; read -r line </dev/tty; echo "read $line"',
    );
    await parent.until("prompt", () => parent.stdout.includes("bash-"));
    parent.child.stdin!.write("echo in$((1+1))side; exit\n");
    await parent.until("inner", () => parent.stdout.includes("in2side"));
    await parent.until(
      "exited",
      () => parent.reports.length >= 0 && /exit\r?\n/.test(parent.stdout),
    );
    await delay(200);
    parent.child.stdin!.write("hello\n");
    await parent.until("read", () => parent.stdout.includes("read hello"));
    expect(await parent.ended).toBe(0);
  });
});

/** The parent under a terminal of its own, started by a bash that runs `script` with it as "$@". */
function terminal(options: Options, script = '"$@"; echo status $?'): Parent {
  return new Parent("run", options, (argv) => {
    const command = ["bash", "-c", script, "job", ...argv].map(quote).join(" ");
    return ["script", "-qefc", command, "/dev/null"];
  });
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function state(pid: number): string {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  return text.slice(text.lastIndexOf(")") + 2)[0]!;
}

/** True once nothing was printed for 200 ms. */
function quiet(parent: Parent): () => boolean {
  let length = -1;
  let since = Date.now();
  return () => {
    if (parent.stdout.length !== length) {
      length = parent.stdout.length;
      since = Date.now();
    }
    return Date.now() - since > 200;
  };
}

// @ts-check
// The ways to a target that are compared. Each lane has a target address of its own on the server's loopback:
//
//   direct     over the veth, no TUN, no proxy
//   ceiling    through the SOCKS server without a TUN, by clients that speak SOCKS themselves
//   a stack    by a route into the TUN device of tun2socks, or of a peer
//
// A stack's process and device are made for a measurement and removed after it, so that none inherits what the last left.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { PORTS } from "./load/port-numbers.js";
import { ip, SERVER_IPV4 } from "./topology.js";

/** @typedef {import("./topology.js").Topology} Topology */

/** What the kernel's side of a device is called, as `tun2socks run` does. */
const DEVICE_IPV4 = "198.18.0.1/15";
const TX_QUEUE = "1000";
/** The client's, where it goes direct. */
const SOURCE_IPV4 = "10.200.0.3";
/** A stack that is not there by then (ms) has failed. */
const START_DEADLINE = 10_000;
const MAX_STDERR = 2000;

const node = process.execPath;
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

export class Lane {
  /**
   * @param {Topology} topology
   * @param {string} name
   * @param {number} number makes its target address
   */
  constructor(topology, name, number) {
    this.topology = topology;
    this.name = name;
    this.number = number;
    this.target = `203.0.113.${number}`;
    /** @type {import("./load/sockets.js").Place | null} */
    this.socks = null;
    this.isStack = false;
    /** Ours: what the others are compared with. */
    this.own = false;
    /** Only lanes of the same MTU are compared; null: with all. @type {number | null} */
    this.mtu = null;
    ip("-n", topology.server, "addr", "add", `${this.target}/32`, "dev", "lo");
  }

  async open(_port = PORTS.socks) {}

  async close() {}

  /** A process to measure; NaN: none. */
  get pid() {
    return Number.NaN;
  }

  /**
   * Runs a load generator in the client's namespace and gives what it printed.
   *
   * @param {string} file in bench/load
   * @param {object} options
   * @returns {Promise<any>}
   */
  async load(file, options) {
    const all = JSON.stringify({ host: this.target, socks: this.socks, ...options });
    return JSON.parse(await this.must([node, at(`load/${file}`), all]));
  }

  /**
   * @param {string[]} argv
   * @param {number} [timeout]
   */
  async must(argv, timeout = 75_000) {
    const { topology } = this;
    const { status, stdout, stderr } = await topology.run(topology.client, argv, { timeout });
    if (status === 0) return stdout;
    const why = status === null ? "not done in time" : `status ${status}`;
    throw new Error(`${argv.slice(0, 2).join(" ")}: ${why} ${stderr.trim() || stdout.trim()}`);
  }
}

export class Direct extends Lane {
  /** @param {Topology} topology @param {number} number */
  constructor(topology, number) {
    super(topology, "direct", number);
    const { client, server } = topology;
    const route = [`${this.target}/32`, "via", SERVER_IPV4, "src", SOURCE_IPV4];
    ip("-n", client, "addr", "add", `${SOURCE_IPV4}/32`, "dev", "c0");
    ip("-n", client, "route", "add", ...route);
    // Datagrams answer from the address that was asked.
    ip("-n", server, "route", "add", `${SOURCE_IPV4}/32`, "dev", "s0", "src", this.target);
  }
}

export class Ceiling extends Lane {
  /** @param {Topology} topology @param {number} number */
  constructor(topology, number) {
    super(topology, "ceiling", number);
    this.socks = { host: SERVER_IPV4, port: PORTS.socks };
  }
}

/**
 * @typedef {object} StackOptions
 * @property {string} name
 * @property {string} command with {tun}, {socks_host}, {socks_port} and {mtu}; the shell's
 * @property {number} mtu of its device
 * @property {boolean} pinned it has this MTU whatever ours is
 * @property {boolean} own
 */

export class StackLane extends Lane {
  #child = /** @type {import("node:child_process").ChildProcess | null} */ (null);
  #stderr = "";
  #command;
  #deviceMtu;
  /** Else it gets one that is there already, as most want it. */
  #makesDevice;

  /**
   * @param {Topology} topology
   * @param {number} number
   * @param {StackOptions} options
   */
  constructor(topology, number, options) {
    super(topology, options.name, number);
    this.isStack = true;
    this.own = options.own;
    this.mtu = options.pinned ? null : options.mtu;
    this.device = `tun${number}`;
    this.#command = options.command;
    this.#deviceMtu = options.mtu;
    this.#makesDevice = options.own;
  }

  /** @override */
  get pid() {
    return this.#child?.pid ?? Number.NaN;
  }

  /** What it says before it ends is why it failed. */
  get #failure() {
    return new Error(`${this.name} did not start: ${this.#stderr.trim() || "no device"}`);
  }

  /** Starts it, and returns when a connection through it has got an answer. `port`: of the SOCKS server. @override */
  async open(port = PORTS.socks) {
    if (!this.#makesDevice) {
      this.prepare();
      this.#start(port);
      if (!(await this.#comes("LOWER_UP"))) {
        await this.close();
        this.#makesDevice = true;
      }
    }
    if (this.#makesDevice) {
      this.#start(port);
      if (!(await this.#comes(this.device))) throw this.#failure;
      // Its own addresses come with it, if at all.
      if (this.own) await this.#comes("LOWER_UP");
      this.#configure();
    }
    if (port === PORTS.socks) await this.answers();
  }

  /** Makes the device, up and with its route, for somebody to serve. */
  prepare() {
    ip("-n", this.topology.client, "tuntap", "add", "mode", "tun", "dev", this.device);
    this.#configure();
  }

  /** Starts it on a device that {@link prepare} made. The time (ms, monotonic) at which it was started. */
  startPrepared() {
    const started = Number(process.hrtime.bigint()) / 1e6;
    this.#start(PORTS.socks);
    return started;
  }

  async answers() {
    const text = await this.must([
      node,
      at("load/first-octet.js"),
      this.target,
      `${START_DEADLINE}`,
    ]);
    if (text.includes("never")) throw new Error(`${this.name} answers nothing: ${this.#stderr}`);
  }

  /** @override */
  async close() {
    const { topology } = this;
    if (this.#child !== null) await topology.end(this.#child);
    this.#child = null;
    spawnSync("ip", ["-n", topology.client, "link", "del", this.device]);
  }

  /** @param {number} port */
  #start(port) {
    const values = {
      tun: this.device,
      socks_host: SERVER_IPV4,
      socks_port: port,
      mtu: this.#deviceMtu,
    };
    const command = fill(this.#command, values);
    const { topology } = this;
    const argv = ["sh", "-c", `exec ${command}`];
    const stdio = ["ignore", "ignore", "pipe"];
    this.#stderr = "";
    const child = topology.start(topology.client, argv, { stdio });
    child.stderr.on("data", (/** @type {Buffer} */ chunk) => {
      this.#stderr = (this.#stderr + chunk).slice(-MAX_STDERR);
    });
    this.#child = child;
  }

  /** Waits until `ip link` shows a word of the device, or the process has ended. @param {string} word */
  async #comes(word, deadline = 3000) {
    for (const end = performance.now() + deadline; performance.now() < end; ) {
      const argv = ["-n", this.topology.client, "-o", "link", "show", this.device];
      if (spawnSync("ip", argv, { encoding: "utf8" }).stdout.includes(word)) return true;
      if (this.#child?.exitCode !== null) return false;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return false;
  }

  /** Gives the device what it lacks. Addresses and MTU of the stack's own choice stay. */
  #configure() {
    const netns = ["-n", this.topology.client];
    const { device } = this;
    ip(...netns, "link", "set", device, "txqueuelen", TX_QUEUE, "mtu", `${this.#deviceMtu}`, "up");
    const shown = spawnSync("ip", [...netns, "-4", "-o", "addr", "show", "dev", device], {
      encoding: "utf8",
    });
    if (shown.stdout.trim() === "") ip(...netns, "addr", "add", DEVICE_IPV4, "dev", device);
    ip(...netns, "route", "replace", `${this.target}/32`, "dev", device);
  }
}

/**
 * Puts values in place of {name}; other braces stay, they may be the shell's.
 *
 * @param {string} command
 * @param {Record<string, string | number>} values
 */
export function fill(command, values) {
  return command.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * The private namespace in which `exec` runs a command: its own network with one TUN device as the only
 * way out, its own mounts (resolver files, hidden sockets), its own processes.
 *
 * This file decides what is in it; src/native/spawn.c and supervisor.c make it. Nothing of the host is
 * changed, so nothing has to be undone: all of it ends with the supervisor, and the supervisor with us.
 */

import { readFileSync } from "node:fs";
import { constants } from "node:os";
import {
  CLIENT_IPV4,
  CLIENT_IPV4_PREFIX,
  CLIENT_IPV6,
  CLIENT_IPV6_PREFIX,
  RESOLVER_IPV4,
} from "../addresses.ts";
import { TunnelError } from "../errors.ts";
import {
  addon,
  type NativeError,
  type SpawnExit,
  type Spawned,
  type SpawnOptions,
  type TunInfo,
} from "../native/binding.ts";
import { MTU_WITH_TSO, MTU_WITHOUT_TSO, type OffloadName, offloadBounds } from "../tun/offload.ts";
import { explainRefusal, refusalFacts } from "./refusal.ts";

export interface NamespaceOptions {
  /** argv; argv[0] is searched in PATH of `env`. */
  readonly command: readonly string[];
  /** Environment of the command; default: ours. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Leaves the *_PROXY variables in: by default the command must not find the way around the tunnel. */
  readonly keepEnv?: boolean;
  /** Name server inside, default our own. null: the host's resolv.conf stays visible. */
  readonly resolver?: string | null;
  /** Names are asked for as they are written first: the resolver knows every name, so no search list would end. */
  readonly namesAsWritten?: boolean;
  /** Lines "ADDRESS NAME" that /etc/hosts has in addition inside. */
  readonly hosts?: readonly string[];
  /** Default: 1500, or 65,520 where the kernel refuses TSO. */
  readonly mtu?: number;
  /** What to ask of the kernel at most; default "on". */
  readonly offload?: OffloadName;
  /** Device node, default "/dev/net/tun". */
  readonly device?: string;
  /** Queues of the device, default 1. */
  readonly queues?: number;
}

/** A namespace that is up, its command not started yet. */
export class Namespace {
  /** The TUN device inside; its descriptor is ours to serve. */
  readonly tun: TunInfo;
  /** The same for each queue, the first included. */
  readonly queues: readonly TunInfo[];
  /** Process of the supervisor. */
  readonly pid: number;
  /** Steps that were refused but are not fatal, as "step: ERRNO". */
  readonly warnings: readonly string[];
  #exit: Promise<SpawnExit> | undefined;

  constructor({ tun, queues, pid, warnings }: Spawned) {
    this.tun = tun;
    this.queues = queues.map((fd) => ({ ...tun, fd }));
    this.pid = pid;
    this.warnings = warnings;
  }

  /**
   * Starts the command and resolves when it, and with it every process inside, has ended. Until then
   * HUP, INT, QUIT, TERM, USR1, USR2, WINCH, CONT and TSTP belong to the command: do not listen to them.
   */
  run(): Promise<SpawnExit> {
    this.#exit ??= new Promise((resolve) => addon().spawnGo(resolve));
    return this.#exit;
  }

  /** Sends a signal to the command. False: it has ended already. */
  signal(signal: number): boolean {
    return addon().spawnSignal(signal) === 0;
  }

  /** Ends every process inside. Idempotent. */
  close(): void {
    addon().spawnKill();
  }
}

/**
 * Makes a namespace with its TUN up. Blocks for some milliseconds. Main thread only; one at a time.
 *
 * @throws TunnelError ERR_TUN_MISSING, ERR_TUN_PERMISSION, ERR_NAMESPACE, … in one line; nothing is left behind.
 */
export function openNamespace(options: NamespaceOptions): Namespace {
  const request = spawnOptions(options);
  const native = addon();
  try {
    return new Namespace(native.spawn(request));
  } catch (error) {
    if (!isNativeError(error)) throw error;
    throw explainRefusal(error, refusalFacts(request.device));
  }
}

function spawnOptions(options: NamespaceOptions): SpawnOptions {
  return {
    tunName: "tun0",
    mtu: options.mtu ?? MTU_WITH_TSO,
    mtuWithoutTso: options.mtu ?? MTU_WITHOUT_TSO,
    txQueueLength: 1000,
    ipv4: CLIENT_IPV4,
    ipv4Prefix: CLIENT_IPV4_PREFIX,
    ipv6: CLIENT_IPV6,
    ipv6Prefix: CLIENT_IPV6_PREFIX,
    ...offloadBounds(options.offload ?? "on"),
    queues: options.queues ?? 1,
    device: options.device ?? "/dev/net/tun",
    files: privateFiles(
      options.resolver === undefined ? RESOLVER_IPV4 : options.resolver,
      options.namesAsWritten ?? false,
      options.hosts,
    ),
    hide: HIDDEN,
    command: options.command,
    env: commandEnvironment(options.env ?? process.env, options.keepEnv ?? false),
    nofileSoft: addon().nofile().soft,
  };
}

/** Where name services of the host listen: a command that asked them would bypass the tunnel. */
const HIDDEN: readonly string[] = ["/run/systemd/resolve", "/run/nscd", "/var/run/nscd"];

function privateFiles(
  resolver: string | null,
  namesAsWritten: boolean,
  hosts: readonly string[] = [],
): SpawnOptions["files"] {
  const files: { path: string; content: string }[] = [];
  if (resolver !== null) {
    // Without a search list there is one nevertheless: the domain of the machine's own name (resolv.conf(5)).
    const options = namesAsWritten ? "options ndots:0\n" : "";
    files.push({ path: "/etc/resolv.conf", content: `nameserver ${resolver}\n${options}` });
  }
  const nsswitch = hostFile("/etc/nsswitch.conf");
  if (nsswitch !== null) {
    files.push({ path: "/etc/nsswitch.conf", content: plainNameService(nsswitch) });
  }
  const known = hosts.length === 0 ? null : hostFile("/etc/hosts");
  if (known !== null && known.length <= MAX_HOSTS) {
    files.push({ path: "/etc/hosts", content: `${[known.trimEnd(), ...hosts].join("\n")}\n` });
  }
  return files;
}

/** Octets of /etc/hosts that we still copy; the addon takes 4 MiB of files in all. */
const MAX_HOSTS = 3 * 1024 * 1024;

/** Names are looked up in /etc/hosts, then at our resolver: no module that talks to a host service. */
export function plainNameService(nsswitch: string): string {
  const line = "hosts: files dns";
  const pattern = /^[ \t]*hosts[ \t]*:.*$/m;
  if (pattern.test(nsswitch)) return nsswitch.replace(pattern, line);
  return `${nsswitch}${nsswitch === "" || nsswitch.endsWith("\n") ? "" : "\n"}${line}\n`;
}

/** "NAME=value" strings; without `keepEnv` no HTTP_PROXY, all_proxy and the like; in no case the password for our proxy. */
export function commandEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  keepEnv: boolean,
): string[] {
  const strings: string[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || name === "TUN2SOCKS_PROXY_AUTH") continue;
    if (!keepEnv && /_proxy$/i.test(name)) continue;
    strings.push(`${name}=${value}`);
  }
  return strings;
}

/** Exit status as a shell gives it: 128+N for a signal, 127 not found, 126 not executable; 125 is our own failure. */
export function exitCode(exit: SpawnExit): number {
  if (exit.startErrno !== 0) return 125;
  if (exit.execErrno !== 0) return exit.execErrno === constants.errno.ENOENT ? 127 : 126;
  return exit.signal > 0 ? 128 + exit.signal : exit.status;
}

/** The line to print when the command could not be started, or null. */
export function commandFailure(command: string, exit: SpawnExit): TunnelError | null {
  const { errno } = constants;
  if (exit.startErrno !== 0) {
    return new TunnelError(
      "ERR_NAMESPACE",
      exit.startErrno === errno.EAGAIN
        ? "cannot start the command: too many processes (fork: EAGAIN); raise `ulimit -u`"
        : `cannot start the command: fork: ${nameOf(exit.startErrno)}; free memory or descriptors`,
    );
  }
  if (exit.execErrno === 0) return null;
  if (exit.execErrno === errno.ENOENT) {
    return new TunnelError(
      "ERR_COMMAND_NOT_FOUND",
      `cannot run ${command}: no such command, or its interpreter is missing; check the name and PATH`,
    );
  }
  return new TunnelError(
    "ERR_COMMAND_NOT_EXECUTABLE",
    exit.execErrno === errno.EACCES
      ? `cannot run ${command}: permission denied; make it an executable file`
      : `cannot run ${command}: ${nameOf(exit.execErrno)}; check the file`,
  );
}

function nameOf(errno: number): string {
  const known = Object.entries(constants.errno).find(([, number]) => number === errno);
  return known?.[0] ?? `errno ${errno}`;
}

function hostFile(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && "syscall" in error && "errno" in error;
}

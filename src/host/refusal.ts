/**
 * Why the kernel would not make the private namespace of `exec`, in one line a user can act on.
 *
 * An errno alone does not tell: EPERM from clone(2) is a sysctl here, a container's seccomp filter
 * there, and AppArmor lets clone pass and refuses a later step. So the explanation comes from the
 * failed step, its errno and the facts of the machine together.
 */

import { readFileSync, statSync } from "node:fs";
import { TunnelError } from "../errors.ts";
import type { NativeError } from "../native/binding.ts";

/** What was looked up on the machine after a refusal. */
export interface RefusalFacts {
  /** Path of the TUN device node. */
  readonly device: string;
  /** Permission bits of the device node; null: there is none. */
  readonly deviceMode: number | null;
  readonly uid: number;
  /** CAP_SYS_ADMIN and CAP_NET_ADMIN are effective, so that no user namespace was asked for. */
  readonly privileged: boolean;
  /** kernel.unprivileged_userns_clone (Debian); null where it does not exist. */
  readonly usernsClone: number | null;
  /** user.max_user_namespaces; null where it does not exist: a kernel without user namespaces. */
  readonly maxUserNamespaces: number | null;
  /** kernel.apparmor_restrict_unprivileged_userns (Ubuntu); null where it does not exist. */
  readonly appArmorRestrict: number | null;
  /** /proc/self/attr/current; "" without AppArmor. */
  readonly appArmorProfile: string;
  /** A seccomp filter is installed, as container engines do. */
  readonly seccomp: boolean;
}

/** Turns a failure of spawn() into what the user is told. Pure. */
export function explainRefusal(error: NativeError, facts: RefusalFacts): TunnelError {
  const [code, message] =
    explainDevice(error, facts) ??
    explainSysctl(error, facts) ??
    explainPolicy(error, facts) ??
    explainLimit(error) ??
    explainRest(error, facts);
  return new TunnelError(code, message, { cause: error });
}

type Explanation = readonly [code: TunnelError["code"], message: string];

const WHAT = "cannot create the private namespace";

function explainDevice(error: NativeError, facts: RefusalFacts): Explanation | null {
  const { device } = facts;
  if (error.syscall !== `open ${device}`) return null;
  const what = `cannot open ${device}`;
  switch (error.code) {
    case "ENOENT":
      return [
        "ERR_TUN_MISSING",
        `${what}: it does not exist; run \`modprobe tun\` as root, or give the container the device (--device /dev/net/tun)`,
      ];
    case "ENODEV":
    case "ENXIO":
      return [
        "ERR_TUN_MISSING",
        `${what}: the kernel has no TUN driver; run \`modprobe tun\` as root`,
      ];
    case "EACCES": {
      // A node that everybody may open was refused by something else: AppArmor, most likely.
      if (facts.deviceMode !== null && (facts.deviceMode & 0o006) === 0o006) return null;
      const mode = facts.deviceMode === null ? "" : ` (mode ${octal(facts.deviceMode)})`;
      return [
        "ERR_TUN_PERMISSION",
        `${what}: permission denied to uid ${facts.uid}${mode}; run \`chmod 0666 ${device}\` as root${facts.uid === 0 ? "" : ", or run this as root"}`,
      ];
    }
    case "EPERM":
      return [
        "ERR_TUN_PERMISSION",
        `${what}: the device is not allowed here (a container's device list); give the container the device (--device /dev/net/tun)`,
      ];
    default:
      return ["ERR_TUN_OPEN", `${what}: ${error.code}; check the device node`];
  }
}

/** Switches that an administrator set. They do not bind who needs no user namespace. */
function explainSysctl(error: NativeError, facts: RefusalFacts): Explanation | null {
  if (facts.privileged) return null;
  if (error.syscall === "clone" && facts.maxUserNamespaces === 0) {
    return [
      "ERR_NAMESPACE",
      `${WHAT}: user namespaces are disabled (user.max_user_namespaces is 0); run \`sysctl -w user.max_user_namespaces=15000\` as root, or run this as root`,
    ];
  }
  if (error.syscall === "clone" && error.code === "EPERM" && facts.usernsClone === 0) {
    return [
      "ERR_NAMESPACE",
      `${WHAT}: user namespaces are reserved to root (kernel.unprivileged_userns_clone is 0); run \`sysctl -w kernel.unprivileged_userns_clone=1\` as root, or run this as root`,
    ];
  }
  // AppArmor may let clone pass, into a profile without capabilities; then a later step is refused.
  if (isDenied(error) && (facts.appArmorRestrict ?? 0) > 0) {
    const profile = facts.appArmorProfile === "" ? "" : `, profile ${facts.appArmorProfile}`;
    return [
      "ERR_NAMESPACE",
      `${WHAT}: AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is ${facts.appArmorRestrict}${profile}; refused: ${error.syscall}); run \`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\` as root, or run this as root`,
    ];
  }
  return null;
}

/** Confinement of this very process. */
function explainPolicy(error: NativeError, facts: RefusalFacts): Explanation | null {
  const refused = `refuses it (${error.syscall}: ${error.code})`;
  if (isDenied(error) && isConfined(facts.appArmorProfile)) {
    return [
      "ERR_NAMESPACE",
      `${WHAT}: AppArmor profile ${facts.appArmorProfile} ${refused}; leave the profile (container: --security-opt apparmor=unconfined)`,
    ];
  }
  if (isDenied(error) && facts.seccomp) {
    return [
      "ERR_NAMESPACE",
      `${WHAT}: a seccomp filter ${refused}; in a container add --cap-add SYS_ADMIN --cap-add NET_ADMIN, or --security-opt seccomp=unconfined`,
    ];
  }
  return null;
}

/** What clone(2) lacks, and descriptors, which any step may. */
function explainLimit(error: NativeError): Explanation | null {
  if (error.code === "EMFILE" || error.code === "ENFILE") {
    return [
      "ERR_NAMESPACE",
      `${WHAT}: too many open files (${error.syscall}: ${error.code}); raise \`ulimit -n\``,
    ];
  }
  if (error.syscall !== "clone") return null;
  switch (error.code) {
    case "EINVAL":
    case "ENOSYS":
      return [
        "ERR_NAMESPACE",
        `${WHAT}: this kernel lacks namespaces (clone: ${error.code}); use one with CONFIG_USER_NS, CONFIG_NET_NS and CONFIG_PID_NS`,
      ];
    case "ENOSPC":
    case "EUSERS":
      return [
        "ERR_NAMESPACE",
        `${WHAT}: a limit on namespaces is reached (clone: ${error.code}); raise the sysctls user.max_*_namespaces, or nest less`,
      ];
    case "EAGAIN":
      return ["ERR_NAMESPACE", `${WHAT}: too many processes (clone: EAGAIN); raise \`ulimit -u\``];
    default:
      return null;
  }
}

function explainRest(error: NativeError, facts: RefusalFacts): Explanation {
  const { code, syscall } = error;
  if (OURS.includes(syscall)) {
    return ["ERR_INTERNAL", `cannot start the command: ${syscall}: ${code}; please report this`];
  }
  if (syscall.startsWith("ioctl") && code === "EBUSY") {
    return [
      "ERR_TUN_BUSY",
      `cannot use the TUN device: it is busy (${syscall}); end the other user`,
    ];
  }
  if (syscall.startsWith("ioctl") && !isDenied(error)) {
    return [
      "ERR_TUN_OPEN",
      `cannot set up the TUN device: ${syscall}: ${code}; check the tun module`,
    ];
  }
  const remedy = facts.uid === 0 ? "grant CAP_SYS_ADMIN and CAP_NET_ADMIN" : "run this as root";
  return ["ERR_NAMESPACE", `${WHAT}: ${syscall}: ${code}; ${remedy}`];
}

function isDenied(error: NativeError): boolean {
  return error.code === "EPERM" || error.code === "EACCES";
}

/** Steps that only fail when we call them wrongly. */
const OURS: readonly string[] = [
  "spawn outside the main thread",
  "spawn twice",
  "command",
  "env",
  "files",
  "hide",
  "device",
  "tunName",
  "ipv4",
  "ipv6",
];

/** "docker-default (enforce)" confines; "unconfined" and a profile in complain mode do not. */
function isConfined(profile: string): boolean {
  return profile !== "" && !profile.startsWith("unconfined") && !profile.endsWith("(complain)");
}

function octal(mode: number): string {
  return `0${mode.toString(8).padStart(3, "0")}`;
}

/** Looks up the facts. Reads a few files; what cannot be read counts as not there. */
export function refusalFacts(device: string): RefusalFacts {
  const status = readText("/proc/self/status");
  const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return {
    device,
    deviceMode: deviceMode(device),
    uid: process.geteuid?.() ?? 0,
    privileged: (capabilities & PRIVILEGED) === PRIVILEGED,
    usernsClone: readInteger("/proc/sys/kernel/unprivileged_userns_clone"),
    maxUserNamespaces: readInteger("/proc/sys/user/max_user_namespaces"),
    appArmorRestrict: readInteger("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    appArmorProfile: readText("/proc/self/attr/current").replace(/\0/g, "").trim(),
    seccomp: /^Seccomp:\s*2$/m.test(status),
  };
}

/** CAP_SYS_ADMIN and CAP_NET_ADMIN (include/uapi/linux/capability.h). */
const PRIVILEGED: bigint = (1n << 21n) | (1n << 12n);

function deviceMode(device: string): number | null {
  try {
    return statSync(device).mode & 0o7777;
  } catch {
    return null;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function readInteger(path: string): number | null {
  const text = readText(path).trim();
  return /^-?\d+$/.test(text) ? Number(text) : null;
}

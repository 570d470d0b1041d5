import { describe, expect, test } from "vitest";
import { explainRefusal, type RefusalFacts, refusalFacts } from "../../src/host/refusal.ts";
import type { NativeError } from "../../src/native/binding.ts";

/** An ordinary user on a machine that allows everything but the device node. */
const ORDINARY: RefusalFacts = {
  device: "/dev/net/tun",
  deviceMode: 0o600,
  uid: 1000,
  privileged: false,
  usernsClone: null,
  maxUserNamespaces: 15000,
  appArmorRestrict: null,
  appArmorProfile: "",
  seccomp: false,
};

function refusal(syscall: string, code: string): NativeError {
  return Object.assign(new Error(`${code}: ${syscall}`), { errno: 1, code, syscall });
}

interface Case {
  readonly name: string;
  readonly syscall: string;
  readonly errno: string;
  readonly facts: Partial<RefusalFacts>;
  readonly code: string;
  readonly says: readonly string[];
}

const CASES: readonly Case[] = [
  {
    name: "a missing device node asks for modprobe",
    syscall: "open /dev/net/tun",
    errno: "ENOENT",
    facts: { deviceMode: null },
    code: "ERR_TUN_MISSING",
    says: ["/dev/net/tun", "does not exist", "modprobe tun"],
  },
  {
    name: "a node without a driver asks for modprobe",
    syscall: "open /dev/net/tun",
    errno: "ENODEV",
    facts: {},
    code: "ERR_TUN_MISSING",
    says: ["no TUN driver", "modprobe tun"],
  },
  {
    name: "a closed node names uid and mode",
    syscall: "open /dev/net/tun",
    errno: "EACCES",
    facts: {},
    code: "ERR_TUN_PERMISSION",
    says: ["uid 1000", "mode 0600", "chmod 0666 /dev/net/tun"],
  },
  {
    name: "a node kept away by a device list names the container",
    syscall: "open /dev/net/tun",
    errno: "EPERM",
    facts: { deviceMode: 0o666 },
    code: "ERR_TUN_PERMISSION",
    says: ["--device /dev/net/tun"],
  },
  {
    name: "an open node refused under the AppArmor restriction is AppArmor's doing",
    syscall: "open /dev/net/tun",
    errno: "EACCES",
    facts: { deviceMode: 0o666, appArmorRestrict: 1, appArmorProfile: "unconfined" },
    code: "ERR_NAMESPACE",
    says: ["kernel.apparmor_restrict_unprivileged_userns is 1", "profile unconfined"],
  },
  {
    name: "another node than the usual one is named",
    syscall: "open /opt/tun",
    errno: "EACCES",
    facts: { device: "/opt/tun", deviceMode: 0o660 },
    code: "ERR_TUN_PERMISSION",
    says: ["cannot open /opt/tun", "mode 0660"],
  },
  {
    name: "user.max_user_namespaces = 0 is named",
    syscall: "clone",
    errno: "ENOSPC",
    facts: { maxUserNamespaces: 0 },
    code: "ERR_NAMESPACE",
    says: ["user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="],
  },
  {
    name: "kernel.unprivileged_userns_clone = 0 is named",
    syscall: "clone",
    errno: "EPERM",
    facts: { usernsClone: 0 },
    code: "ERR_NAMESPACE",
    says: ["kernel.unprivileged_userns_clone is 0", "=1"],
  },
  {
    name: "the AppArmor restriction is named at a step after clone",
    syscall: "mount /",
    errno: "EACCES",
    facts: { appArmorRestrict: 1, appArmorProfile: "unconfined" },
    code: "ERR_NAMESPACE",
    says: [
      "kernel.apparmor_restrict_unprivileged_userns is 1",
      "profile unconfined",
      "refused: mount /",
      "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ],
  },
  {
    name: "the AppArmor restriction is named when the uid map is refused",
    syscall: "write /proc/self/uid_map",
    errno: "EPERM",
    facts: { appArmorRestrict: 1 },
    code: "ERR_NAMESPACE",
    says: ["kernel.apparmor_restrict_unprivileged_userns", "write /proc/self/uid_map"],
  },
  {
    name: "the AppArmor restriction does not bind the privileged",
    syscall: "mount /",
    errno: "EACCES",
    facts: {
      appArmorRestrict: 1,
      privileged: true,
      uid: 0,
      appArmorProfile: "docker-default (enforce)",
    },
    code: "ERR_NAMESPACE",
    says: ["AppArmor profile docker-default (enforce)", "apparmor=unconfined"],
  },
  {
    name: "a complaining profile is not blamed",
    syscall: "clone",
    errno: "EPERM",
    facts: { appArmorProfile: "node (complain)", seccomp: true, uid: 0 },
    code: "ERR_NAMESPACE",
    says: ["seccomp filter", "--cap-add SYS_ADMIN", "seccomp=unconfined"],
  },
  {
    name: "a kernel without namespaces is named",
    syscall: "clone",
    errno: "EINVAL",
    facts: { maxUserNamespaces: null },
    code: "ERR_NAMESPACE",
    says: ["kernel lacks namespaces", "CONFIG_USER_NS"],
  },
  {
    name: "a reached limit is named",
    syscall: "clone",
    errno: "ENOSPC",
    facts: {},
    code: "ERR_NAMESPACE",
    says: ["limit on namespaces", "user.max_*_namespaces"],
  },
  {
    name: "too many processes are named",
    syscall: "clone",
    errno: "EAGAIN",
    facts: {},
    code: "ERR_NAMESPACE",
    says: ["too many processes", "ulimit -u"],
  },
  {
    name: "a full table of descriptors is named, whichever step finds it full",
    syscall: "receive the TUN device",
    errno: "EMFILE",
    facts: { uid: 0 },
    code: "ERR_NAMESPACE",
    says: ["too many open files", "receive the TUN device", "ulimit -n"],
  },
  {
    name: "an ioctl that fails for another reason than permission is the device's",
    syscall: "ioctl TUNSETIFF",
    errno: "EINVAL",
    facts: {},
    code: "ERR_TUN_OPEN",
    says: ["ioctl TUNSETIFF: EINVAL"],
  },
  {
    name: "a busy device is named",
    syscall: "ioctl TUNSETIFF",
    errno: "EBUSY",
    facts: {},
    code: "ERR_TUN_BUSY",
    says: ["busy"],
  },
  {
    name: "an unexplained refusal names step and errno, and root",
    syscall: "write /proc/self/gid_map",
    errno: "EPERM",
    facts: {},
    code: "ERR_NAMESPACE",
    says: ["write /proc/self/gid_map: EPERM", "run this as root"],
  },
  {
    name: "root without capabilities is told which ones",
    syscall: "mount /",
    errno: "EPERM",
    facts: { uid: 0 },
    code: "ERR_NAMESPACE",
    says: ["CAP_SYS_ADMIN and CAP_NET_ADMIN"],
  },
  {
    name: "a call out of place is a bug of ours",
    syscall: "spawn twice",
    errno: "EBUSY",
    facts: {},
    code: "ERR_INTERNAL",
    says: ["spawn twice"],
  },
];

describe("explainRefusal", () => {
  test.each(CASES)("$name", ({ syscall, errno, facts, code, says }) => {
    const cause = refusal(syscall, errno);
    const error = explainRefusal(cause, { ...ORDINARY, ...facts });
    expect(error.code).toBe(code);
    for (const text of says) expect(error.message).toContain(text);
    expect(error.cause).toBe(cause);
  });

  test.each(CASES)("$name: one line of what, why and what to do", ({ syscall, errno, facts }) => {
    const { message } = explainRefusal(refusal(syscall, errno), { ...ORDINARY, ...facts });
    expect(message).toMatch(/^cannot [^\n:]+: [^\n]+; [^\n]+$/);
  });
});

test("the facts of a node that does not exist say so, and those of this machine are plausible", () => {
  expect(refusalFacts("/nonexistent/tun").deviceMode).toBe(null);
  const facts = refusalFacts("/dev/null");
  expect(facts.deviceMode).toBe(0o666);
  expect(facts.uid).toBe(process.geteuid?.());
  expect(facts.maxUserNamespaces === null || facts.maxUserNamespaces >= 0).toBe(true);
});

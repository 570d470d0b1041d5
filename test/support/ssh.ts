/** OpenSSH: an sshd on the server machine, and `ssh -D` on the client machine against it. */

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER_IPV4, SERVER_IPV6, type World } from "./world.ts";

export const SSHD_PORT = 2222;

/** Starts sshd; resolves with how ssh logs in to it, flags only. `wrap` may put something before its command. */
export async function startSshd(
  world: World,
  wrap: (argv: readonly string[]) => readonly string[] = (argv) => argv,
): Promise<readonly string[]> {
  const keys = join(world.directory, "ssh");
  mkdirSync(keys, { mode: 0o700 });
  for (const name of ["host", "user"]) {
    const { status, stderr } = spawnSync(
      "ssh-keygen",
      ["-q", "-t", "ed25519", "-N", "", "-f", join(keys, name)],
      { encoding: "utf8" },
    );
    if (status !== 0) throw new Error(`ssh-keygen: ${stderr}`);
  }
  copyFileSync(join(keys, "user.pub"), join(keys, "authorized_keys"));
  chmodSync(join(keys, "authorized_keys"), 0o600);
  const config = join(keys, "sshd_config");
  writeFileSync(
    config,
    `
Port ${SSHD_PORT}
ListenAddress ${SERVER_IPV4}
ListenAddress ${SERVER_IPV6}
HostKey ${join(keys, "host")}
AuthorizedKeysFile ${join(keys, "authorized_keys")}
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
AllowTcpForwarding yes
`,
  );
  // sshd needs its privilege separation directory, which Debian's service makes at boot.
  mkdirSync("/run/sshd", { recursive: true });
  world.start(world.server, wrap(["/usr/sbin/sshd", "-D", "-e", "-f", config]));
  await world.bound(world.server, SSHD_PORT);
  return [
    ...["-p", `${SSHD_PORT}`, "-i", join(keys, "user"), "-o", "StrictHostKeyChecking=no"],
    ...["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"],
  ];
}

/** Starts both; resolves with the proxy's URL once it listens. `wrap` may put something before sshd's command. */
export async function startSshProxy(
  world: World,
  port = 1081,
  wrap: (argv: readonly string[]) => readonly string[] = (argv) => argv,
): Promise<string> {
  const login = await startSshd(world, wrap);
  const listen = ["-N", "-D", `127.0.0.1:${port}`];
  world.start(world.client, ["ssh", ...listen, ...login, `root@${SERVER_IPV4}`]);
  await world.bound(world.client, port);
  return `socks5://127.0.0.1:${port}`;
}

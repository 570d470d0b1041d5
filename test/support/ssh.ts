/** OpenSSH's `ssh -D` on the client machine, against an sshd on the server machine. */

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER_IPV4, type World } from "./world.ts";

/** Starts both; resolves with the proxy's URL once it listens. `wrap` may put something before sshd's command. */
export async function startSshProxy(
  world: World,
  port = 1081,
  wrap: (argv: readonly string[]) => readonly string[] = (argv) => argv,
): Promise<string> {
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
Port 2222
ListenAddress ${SERVER_IPV4}
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
  await world.bound(world.server, 2222);
  world.start(world.client, [
    "ssh",
    "-N",
    "-D",
    `127.0.0.1:${port}`,
    "-p",
    "2222",
    "-i",
    join(keys, "user"),
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    `root@${SERVER_IPV4}`,
  ]);
  await world.bound(world.client, port);
  return `socks5://127.0.0.1:${port}`;
}

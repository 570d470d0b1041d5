/** Dante (Debian's dante-server) as a proxy of the tests. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER_IPV4, type World } from "./world.ts";

/**
 * Starts Dante on the server machine; resolves once it listens. `wrap` may put something before its command; `method`
 * is a `socksmethod` of its configuration.
 */
export async function startDante(
  world: World,
  port = 1080,
  wrap: (argv: readonly string[]) => readonly string[] = (argv) => argv,
  method = "none",
): Promise<string> {
  const file = join(world.directory, `danted-${port}.conf`);
  writeFileSync(
    file,
    `
logoutput: stderr
internal: ${SERVER_IPV4} port = ${port}
external: s0
clientmethod: none
socksmethod: ${method}
user.privileged: root
user.unprivileged: nobody
client pass { from: 0/0 to: 0/0 }
client pass { from: ::/0 to: ::/0 }
socks pass { from: 0/0 to: 0/0 protocol: tcp udp }
socks pass { from: ::/0 to: ::/0 protocol: tcp udp }
socks pass { from: 0/0 to: ::/0 protocol: tcp udp }
`,
  );
  const dante = world.start(world.server, wrap(["danted", "-f", file]));
  await world.bound(world.server, port).catch((cause) => {
    throw new Error(`Dante does not listen: ${dante.stdout}${dante.stderr}`, { cause });
  });
  return `socks5://${SERVER_IPV4}:${port}`;
}

/** Everything of the matrix with one program as a client of our server. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { startSshd } from "../support/ssh.ts";
import { CLI, fixture, SERVER_IPV4, SERVER_IPV6, type World } from "../support/world.ts";
import {
  CLIENT_COLUMNS,
  type ClientCells,
  type ClientColumn,
  type ClientRow,
  type Errand,
  WEB,
} from "./clients.ts";
import { CREDENTIALS, knowing, NAME } from "./servers.ts";
import { TARGETS } from "./try-server.ts";

const OPEN = 1080;
const GUARDED = 1081;
const NOBODY = 9;

export async function tryClient(world: World, row: ClientRow): Promise<ClientCells> {
  const users = join(world.directory, "users");
  writeFileSync(users, `${CREDENTIALS}\n`, { mode: 0o600 });
  const wrap = knowing(world);
  const proxy = (port: number, ...flags: readonly string[]): void => {
    const listen = ["--listen", `${SERVER_IPV4}:${port}`, "--allow-private"];
    world.start(world.server, wrap([process.execPath, CLI, "proxy", ...listen, ...flags]));
  };
  proxy(OPEN, "--open");
  proxy(GUARDED, "--user-file", users);
  world.start(world.server, [
    ...[process.execPath, fixture("web.js"), `${WEB}`, SERVER_IPV4, SERVER_IPV6],
  ]);
  for (const port of [OPEN, GUARDED, WEB]) await world.bound(world.server, port);
  const ssh = row.programs.includes("ssh") ? await startSshd(world) : [];
  const isWeb = row.programs.includes("curl");
  const usual: Errand = {
    world,
    proxyPort: OPEN,
    credentials: "",
    host: SERVER_IPV4,
    port: isWeb ? WEB : TARGETS,
    octets: 4,
    transport: "tcp",
    ssh,
  };
  const errands: Readonly<Record<ClientColumn, Errand>> = {
    v4: usual,
    v6: { ...usual, host: SERVER_IPV6 },
    name: { ...usual, host: NAME },
    refused: { ...usual, port: NOBODY },
    transfer: { ...usual, octets: 1 << 20 },
    password: { ...usual, proxyPort: GUARDED, credentials: CREDENTIALS },
    wrong: { ...usual, proxyPort: GUARDED, credentials: "me:wrong" },
    udp: { ...usual, transport: "udp" },
  };
  const cells = Object.keys(CLIENT_COLUMNS).map(async (name) => {
    const column = name as ClientColumn;
    if (row.instead[column] === "–") return [column, "–"];
    const { stdout, stderr } = await world.run(world.client, row.argv(errands[column]));
    const seen = stdout.trim();
    if (column === "refused") return [column, row.refusal.test(seen) ? "yes" : seen + stderr];
    if (column === "wrong") return [column, row.denial.test(seen) ? "refused" : seen + stderr];
    return [column, seen === "yes" ? seen : `${seen} ${stderr.trim()}`];
  });
  return Object.fromEntries(await Promise.all(cells)) as ClientCells;
}

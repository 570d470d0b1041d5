/**
 * Our client with the servers that others wrote, and our server with their clients: docs/socks.md, which this writes.
 *
 * `npm run test:socks` compares, `npm run test:socks -- -u` writes. A row whose programs are not installed is not run,
 * and then nothing is compared either.
 */

import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import { fixture, SERVER_IPV4, SERVER_IPV6, World } from "../support/world.ts";
import { CLIENT_USUAL, CLIENTS, type ClientCells } from "./clients.ts";
import { type Cells, USUAL } from "./columns.ts";
import { socksPage } from "./page.ts";
import { SERVERS } from "./servers.ts";
import { tryClient } from "./try-client.ts";
import { TARGETS, tryServer } from "./try-server.ts";

const PAGE = fileURLToPath(new URL("../../docs/socks.md", import.meta.url));
const seen = new Map<string, Cells>();
const seenByClients = new Map<string, ClientCells>();

/** A world of its own for each row, with what is reached through the proxy. */
async function within<T>(work: (world: World) => Promise<T>): Promise<T> {
  const world = new World();
  try {
    const targets = fixture("peer-targets.js");
    world.start(world.server, [
      process.execPath,
      targets,
      `${TARGETS}`,
      ...[SERVER_IPV4, SERVER_IPV6],
    ]);
    await world.bound(world.server, TARGETS + 1);
    return await work(world);
  } finally {
    world.close();
  }
}

describe("servers", () => {
  for (const row of SERVERS) {
    test.skipIf(lacks(...row.programs))(row.name, { concurrent: true }, async () => {
      const cells = await within((world) => tryServer(world, row));
      seen.set(row.name, cells);
      expect(cells).toEqual({ ...USUAL, ...row.instead });
    });
  }
});

describe("clients", () => {
  for (const row of CLIENTS) {
    test.skipIf(lacks(...row.programs))(row.name, { concurrent: true }, async () => {
      const cells = await within((world) => tryClient(world, row));
      seenByClients.set(row.name, cells);
      expect(cells).toEqual({ ...CLIENT_USUAL, ...row.instead });
    });
  }
});

test.skipIf(lacks(...[...SERVERS, ...CLIENTS].flatMap(({ programs }) => programs)))(
  "docs/socks.md is what was seen; `npm run test:socks -- -u` writes it",
  async () => {
    await expect(socksPage(SERVERS, seen, CLIENTS, seenByClients)).toMatchFileSnapshot(PAGE);
  },
);

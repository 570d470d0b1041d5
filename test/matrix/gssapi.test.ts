/**
 * GSSAPI (RFC 1961) in a Kerberos realm of the test's own: the acceptor is MIT's library under a proxy of ours, and Dante
 * where TUN2SOCKS_GSS_DANTE names one that was built with GSSAPI, which Debian's is not.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GSS_LEVELS } from "../../src/socks/gss-context.ts";
import { KOFFI_PACKAGE } from "../../src/socks/gss-library.ts";
import { type Realm, startGssDante, startRealm } from "../support/kerberos.ts";
import { lacks } from "../support/requirements.ts";
import { fixture, type Result, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const DANTE = process.env["TUN2SOCKS_GSS_DANTE"];
/** Of the proxy that takes both variants, of Dante by RFC 1961, of Dante with NEC's. */
const PORTS = { both: 1080, rfc: 1081, nec: 1082 };
const WEB = `http://${SERVER_IPV4}:8080`;
const OCTETS = 1_500_000;

const isMissing = lacks("krb5kdc", "kadmin.local", "kinit", "python3-gssapi");
let world: World;
let realm: Realm;
let modules: string;

beforeAll(async () => {
  if (isMissing) return;
  world = new World();
  modules = join(world.directory, "packages");
  mkdirSync(modules);
  // It is nobody's dependency but that of who asks for GSSAPI. Its install script would compile what is compiled.
  const install = ["install", "--silent", "--no-save", "--ignore-scripts", "--prefix", modules];
  const { status, stderr } = spawnSync("npm", [...install, `${KOFFI_PACKAGE}@3.3.4`], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`npm install ${KOFFI_PACKAGE}: ${stderr}`);
  realm = await startRealm(world);
  // Debian's, which has the module of Debian.
  const proxy = ["/usr/bin/python3", fixture("gss-proxy.py"), SERVER_IPV4, `${PORTS.both}`];
  const env = { ...realm.withoutTicket, KRB5_KTNAME: `FILE:${realm.keytab}` };
  const running = world.start(world.server, proxy, { env });
  await world.bound(world.server, PORTS.both).catch((cause) => {
    throw new Error(`gss-proxy.py: ${running.stderr}`, { cause });
  });
  if (DANTE !== undefined) {
    const enctype = `gssapi.enctype: ${GSS_LEVELS.join(" ")}`;
    const nec = `${enctype}\n  clientcompatibility: necgssapi`;
    await startGssDante(world, realm, PORTS.rfc, enctype, DANTE);
    await startGssDante(world, realm, PORTS.nec, nec, DANTE);
  }
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
  world.start(world.server, [node, fixture("udp-echo.js"), "7", SERVER_IPV4]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 7, "u");
}, 60_000);

afterAll(() => world?.close());

function exec(
  query: string,
  command: readonly string[],
  port = PORTS.both,
  env: NodeJS.ProcessEnv = realm.withTicket,
): Promise<Result> {
  const flags = ["-p", `socks5://${SERVER_IPV4}:${port}?${query}`];
  return world.exec(flags, command, {
    env: { ...env, NODE_PATH: join(modules, "node_modules") },
  });
}

const PEERS: ReadonlyArray<[name: string, port: number, nec: string, isThere: boolean]> = [
  ["MIT's library", PORTS.both, "", true],
  ["MIT's library, NEC's variant", PORTS.both, "&nec", true],
  ["Dante", PORTS.rfc, "", DANTE !== undefined],
  ["Dante, NEC's variant", PORTS.nec, "&nec", DANTE !== undefined],
];

describe.skipIf(isMissing)("GSSAPI", () => {
  for (const [peer, port, nec, isThere] of PEERS) {
    describe.skipIf(!isThere)(peer, () => {
      test.each(GSS_LEVELS)("at %s octets and datagrams arrive equal both ways", async (level) => {
        const got = join(world.directory, "got");
        const echo = [node, fixture("udp-client.js"), SERVER_IPV4, "7", "50"].join(" ");
        const script = `
          curl -sS ${WEB}/sha256/${OCTETS} && echo
          curl -sS ${WEB}/${OCTETS} -o ${got} && sha256sum < ${got}
          curl -sS -T ${got} ${WEB}/ && echo
          ${echo}
        `;
        const { stdout, stderr } = await exec(`gssapi=${level}${nec}`, ["sh", "-c", script], port);
        const [expected, down, up, datagrams] = stdout.split("\n");
        expect(expected, stderr).toMatch(/^[0-9a-f]{64}$/);
        expect([down, up]).toEqual([`${expected}  -`, expected]);
        expect(datagrams).toBe("50 answered");
      });
    });
  }

  test("what the proxy refuses is refused", async () => {
    const { stderr } = await exec("gssapi", ["curl", "-sS", `http://${SERVER_IPV4}:9/`]);
    expect(stderr).toMatch(/Connection refused|Couldn't connect/);
  });

  test("a service that nobody has, no ticket and no package are told, with what to do", async () => {
    const service = await exec("gssapi&service=nobody", ["true"]);
    expect(service.stderr).toMatch(
      /GSSAPI failed: .*not found.*service name.*\(ERR_PROXY_AUTH\)$/m,
    );
    const ticket = await exec("gssapi", ["true"], PORTS.both, realm.withoutTicket);
    expect(ticket.stderr).toMatch(/GSSAPI failed: .*; see klist, kinit .*\(ERR_PROXY_AUTH\)$/m);
    const flags = ["-p", `socks5://${SERVER_IPV4}?gssapi`];
    const alone = await world.exec(flags, ["true"], { env: realm.withTicket });
    expect(alone.stderr).toMatch(
      /: cannot use GSSAPI: .*npm install koffi \(ERR_ADDON_MISSING\)$/m,
    );
    expect([service.status, ticket.status, alone.status]).toEqual([125, 125, 125]);
  });
});

/**
 * What a program sees of every refusal: Linux's own connect() and a connected UDP socket. The table is
 * docs/refusals.md; `npx vitest run --project e2e refusals -u` writes it anew.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
import { TunnelError } from "../../src/errors.ts";
import { type TcpAnswer, tcpAnswer, type UdpAnswer, udpAnswer } from "../../src/relay/refusal.ts";
import type { Refusal } from "../../src/socks/ports.ts";
import { CLI, fixture, ip, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
let world: World;

beforeAll(() => {
  world = new World();
});

afterAll(() => world.close());

/** Kind and reply of the refusal, what the proxy does, and how the table names it. */
const ROWS: ReadonlyArray<readonly [Refusal["kind"], number, string, string]> = [
  ["reply", 1, "1", "01 general failure"],
  ["reply", 2, "2", "02 not allowed by ruleset"],
  ["reply", 3, "3", "03 network unreachable"],
  ["reply", 4, "4", "04 host unreachable"],
  ["reply", 5, "5", "05 connection refused"],
  ["reply", 6, "6", "06 TTL expired"],
  ["reply", 7, "7", "07 command not supported"],
  ["reply", 8, "8", "08 address type not supported"],
  ["reply", 0xf2, "242", "any other"],
  ["timeout", 0, "mute", "no answer (30 s)"],
  ["protocol", 0, "reset", "closed without an answer"],
  ["unreachable", 0, "", "proxy down"],
];

const TCP_WORDS: Record<TcpAnswer, string> = {
  reset: "RST",
  "net-unreachable": "ICMP network unreachable, RST",
  "host-unreachable": "ICMP host unreachable, RST",
  prohibited: "ICMP administratively prohibited, RST",
  "ttl-exceeded": "ICMP time exceeded in transit, RST",
  "port-unreachable": "ICMP port unreachable, RST",
  forget: "silence",
};

const UDP_WORDS: Record<UdpAnswer, string> = {
  reset: "ICMP port unreachable",
  "net-unreachable": "ICMP network unreachable",
  "host-unreachable": "ICMP host unreachable",
  prohibited: "ICMP administratively prohibited",
  "ttl-exceeded": "ICMP time exceeded",
  "port-unreachable": "ICMP port unreachable",
  silence: "silence",
};

test("every refusal reaches programs as docs/refusals.md says", async () => {
  const lines: string[] = [];
  let port = 3000;
  for (const [kind, reply, behaviour, name] of ROWS) {
    port++;
    if (behaviour !== "") {
      world.start(world.server, [
        node,
        fixture("refusing-proxy.js"),
        SERVER_IPV4,
        String(port),
        behaviour,
      ]);
      await world.bound(world.server, port);
    }
    // `exec` does not start without its proxy, so the proxy that is down is down for `run` only.
    const proxy = `socks5://${SERVER_IPV4}:${port}`;
    const { stdout } =
      behaviour === ""
        ? await throughRun(proxy)
        : await world.exec(["-p", proxy, "--dns", "off"], [node, fixture("refusals.js")]);
    const [tcp4, tcp6, udp4, udp6] = stdout.trim().split(" ");
    const refusal: Refusal = { kind, reply, error: new TunnelError("ERR_PROXY_PROTOCOL", "") };
    lines.push(
      `| ${name} | ${TCP_WORDS[tcpAnswer(refusal)]} | ${tcp4} | ${tcp6} | ${UDP_WORDS[udpAnswer(refusal)]} | ${udp4} | ${udp6} |`,
    );
  }
  await expect(HEAD + lines.join("\n") + TAIL).toMatchFileSnapshot("../../docs/refusals.md");
});

/** The same program in a namespace served by `run`, whose proxy is not there. */
async function throughRun(proxy: string): Promise<{ stdout: string }> {
  const running = world.start(world.client, [
    node,
    CLI,
    "run",
    "-d",
    "tun5",
    "-p",
    proxy,
    "--dns",
    "off",
  ]);
  await running.says("serving tun5");
  ip("-n", world.client, "route", "add", "192.0.2.1/32", "dev", "tun5");
  ip("-n", world.client, "route", "add", "2001:db8::1/128", "dev", "tun5");
  const result = await world.run(world.client, [node, fixture("refusals.js")]);
  running.child.kill("SIGTERM");
  await running.ended;
  return result;
}

const HEAD = `# Refusals

What a program sees when the proxy says no. The columns with error codes are what \`connect()\`, or a connected
UDP socket at its next call, returns on Linux; "nothing" is no error within two seconds. An end-to-end
test fills this table (test/e2e/refusals.test.ts).

| the proxy's answer | TCP: what we send | IPv4 | IPv6 | UDP: what we send | IPv4 | IPv6 |
|---|---|---|---|---|---|---|
`;

const TAIL = `

An ICMP error about a connection comes from the destination's address, quotes the SYN whole, and is followed in
the same batch by an RST: a socket that is locked by the program at that moment drops ICMP, but keeps an RST.
It then sees ECONNREFUSED instead of the code above (about one in 3,000 where it was measured).

Linux tells a connected UDP socket of port unreachable and administratively prohibited; host and network
unreachable are hints it keeps to itself unless the program asks (IP_RECVERR).

No answer within the dial's 30 s means silence, so that the client's own time-out is what it sees. Refusals of
our own limits (descriptors, source ports) are RST with a line in the log.
`;

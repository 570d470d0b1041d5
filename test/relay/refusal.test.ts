import { expect, test } from "vitest";
import { lacksUdp, tcpAnswer, udpAnswer } from "../../src/relay/refusal.ts";
import { PACKETS, REFUSALS, refusalsPage } from "../support/refusal-table.ts";
import { RelayWorld } from "../support/relay-world.ts";
import { reply, trouble } from "../support/scripted-upstream.ts";

test.each(REFUSALS)("$said: $tcp for a SYN, $udp for a datagram", ({ refusal, tcp, udp }) => {
  expect(tcpAnswer(refusal)).toBe(tcp);
  expect(udpAnswer(refusal)).toBe(udp);
});

test("every reply has an answer, the unknown ones RST", () => {
  for (let code = 9; code < 256; code++) expect(tcpAnswer(reply(code))).toBe("reset");
});

test("only 07 and 08 mean that there is no UDP", () => {
  const lacking = REFUSALS.filter(({ refusal }) => lacksUdp(refusal)).map(({ said }) => said);
  expect(lacking).toEqual(["07 command not supported", "08 address type not supported"]);
  expect(lacksUdp(trouble("timeout"))).toBe(false);
});

test.each(REFUSALS)(
  "$said: the client gets the packets docs/refusals.md names",
  ({ refusal, tcp }) => {
    for (const [family, target] of ["93.184.216.34:80", "[2001:db8::1]:80"].entries()) {
      const world = new RelayWorld();
      const client = world.tcp(target, 40000);
      client.syn();
      expect(client.state).toBe("syn-sent");
      world.act(() => world.upstream.stream.refuse(refusal));
      const icmp = world.errors().map((error) => `${family === 0 ? "ICMP" : "ICMPv6"} ${error}`);
      const packet = PACKETS[tcp][family]!;
      expect(icmp).toEqual(packet.startsWith("ICMP") ? [packet] : []);
      expect(client.state).toBe(tcp === "forget" ? "syn-sent" : "reset");
      expect(world.relay.stats.tcpFlows).toBe(0);
    }
  },
);

test("docs/refusals.md is what the table says", async () => {
  await expect(refusalsPage()).toMatchFileSnapshot("../../docs/refusals.md");
});

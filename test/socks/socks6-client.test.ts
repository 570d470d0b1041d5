/** `socks6://` by the octets on the wire: real sockets on loopback, virtual time. */

import { afterEach, describe, expect, test } from "vitest";
import type { Refusal } from "../../src/socks/ports.ts";
import {
  closeServers,
  endpoint,
  open,
  pass,
  Recorder,
  ScriptedServer,
  SHAPES,
  settle,
  within,
} from "./client-harness.ts";

afterEach(closeServers);

const REQUEST = "060100000050" + "0001" + "c0000201";
const AUTHENTICATED = "06000000";
const GRANTED = "06000000126700017f000001";

const url = (server: ScriptedServer, user = ""): string =>
  `socks6://${user}127.0.0.1:${server.port}`;

describe.each(SHAPES)("%s streams", (shape) => {
  test("one message leaves, both replies come together, and what is behind them is the stream's", async () => {
    const server = await ScriptedServer.listen();
    const client = new Recorder().connect(open(shape, url(server)));
    const peer = await server.accept();
    await peer.expects(REQUEST);
    peer.send(`${AUTHENTICATED}${GRANTED}676c756564`);
    await client.has("open");
    await client.has(shape === "direct" ? "readable" : "bytes");
    expect(client.text).toBe("glued");
    client.send("up");
    await peer.expects("7570");
    client.stream?.close();
  });

  test("credentials travel in the request, a name as a name, padded (§4, §9)", async () => {
    const server = await ScriptedServer.listen();
    const to = { name: "a.test", endpoint: endpoint("0.0.0.0", 443) };
    const client = new Recorder().connect(open(shape, url(server, "me:pw!@")), to);
    const peer = await server.accept();
    await peer.expects(
      "0601001001bb0003" + "07612e7465737400" + "00040010" + "0201026d6503707721000000",
    );
    await peer.trickle(AUTHENTICATED + GRANTED);
    await client.has("open");
    client.stream?.close();
  });

  test("what is refused is told by the reply, before or behind the authentication", async () => {
    const server = await ScriptedServer.listen();
    const upstream = open(shape, url(server));
    const refused = new Recorder().connect(upstream);
    (await server.accept()).send(`${AUTHENTICATED}060500000000000100000000`);
    expect(await refused.refused()).toMatch(/^reply 5: .*it refused: connection refused \(05\)$/);
    const unknown = new Recorder().connect(upstream);
    (await server.accept()).send("06010000");
    expect(await unknown.refused()).toMatch(/^auth 0: .*it wants credentials/);
    const late = new Recorder().connect(upstream);
    (await server.accept()).send(`${AUTHENTICATED}060900000000000100000000`);
    expect(await late.refused()).toMatch(/^timeout 0: .*timed out \(09\)$/);
  });

  test("a proxy that says nothing is silent; behind the authentication it is the destination", async () => {
    const server = await ScriptedServer.listen();
    for (const answer of ["", AUTHENTICATED]) {
      const client = new Recorder().connect(open(shape, url(server)));
      const peer = await server.accept();
      await peer.expects(REQUEST);
      peer.send(answer);
      await settle();
      pass(30_010);
      expect(await client.refused()).toMatch(/^timeout/);
      expect(client.refusal?.isProxySilent).toBe(answer === "");
    }
  });

  test("there is no UDP, and nobody is asked for it", async () => {
    const server = await ScriptedServer.listen();
    let refusal: Refusal | null = null;
    const upstream = open(shape, url(server));
    within(() =>
      upstream.associate({
        onOpen() {},
        onRefused(told) {
          refusal = told;
        },
        onDatagram() {},
        onLost() {},
      }),
    );
    pass(20);
    expect(refusal).toMatchObject({ kind: "reply", reply: 7 });
    expect(server.count).toBe(0);
  });

  test("the start-up probe asks for nothing, and is answered", async () => {
    const server = await ScriptedServer.listen();
    const asked = open(shape, url(server)).probe();
    const peer = await server.accept();
    await peer.expects("060000000000000100000000");
    peer.send(`${AUTHENTICATED}${GRANTED}`);
    expect(await asked).toBe(null);
  });
});

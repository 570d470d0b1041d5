/** A chain over real sockets: one scripted server plays the first proxy and, behind its reply, the second. */

import { afterEach, describe, expect, test } from "vitest";
import { parseProxyUrl } from "../../src/socks/proxy-url.ts";
import { ChainUpstream } from "../../src/upstreams/chain-upstream.ts";
import {
  CONNECT,
  closeServers,
  descriptors,
  environment,
  GRANT,
  open,
  Recorder,
  ScriptedServer,
  SHAPES,
  type Shape,
  until,
} from "../socks/client-harness.ts";

const TO_SECOND = "05010001c00002020439";
const REFUSE = "05050001000000000000";

afterEach(closeServers);

function chain(shape: Shape, server: ScriptedServer): ChainUpstream {
  const missing = shape === "layered" ? { addon: null, poller: null } : {};
  const second = parseProxyUrl("socks5://192.0.2.2:1081");
  return new ChainUpstream(open(shape, server.url), second, environment(missing));
}

describe.each(SHAPES)("%s shape", (shape) => {
  test("octets pass both ways, those glued to the last reply and the end of stream too", async () => {
    const server = await ScriptedServer.listen();
    const client = new Recorder().connect(chain(shape, server));
    const peer = await server.accept();
    await peer.expects("050100");
    peer.send("0500");
    await peer.expects(TO_SECOND);
    peer.send(GRANT);
    await peer.expects("050100");
    await peer.trickle("0500");
    await peer.expects(CONNECT);
    peer.send(`${GRANT}6869`);
    await until("what was glued", () => client.text === "hi");
    expect(client.stream?.shape).toBe(shape);
    client.send("ping");
    await peer.expects("70696e67");
    peer.socket.end("bye");
    await until("the end", () => client.text === "hibye");
    await client.has("end");
    client.stream?.shutdown();
    expect(await peer.gone()).toMatch(/ended|closed/);
    client.stream?.close();
  });

  test("a refusal leaves no descriptor", async () => {
    const server = await ScriptedServer.listen();
    const before = descriptors();
    const client = new Recorder().connect(chain(shape, server));
    const peer = await server.accept();
    await peer.expects("050100");
    peer.send("0500");
    await peer.expects(TO_SECOND);
    peer.send(REFUSE);
    expect(await client.refused()).toMatch(/^unreachable 0: chain .*connection refused \(05\)$/);
    await peer.gone();
    peer.socket.destroy();
    await until("both ends closed", () => descriptors() <= before);
  });
});

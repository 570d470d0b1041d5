/**
 * A Kerberos realm of its own on the server machine (Debian's krb5-kdc and krb5-admin-server), and Dante with GSSAPI in it.
 * Everything lies in the world's directory; nothing of the system's configuration is read or written.
 */

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER_IPV4, type World } from "./world.ts";

const REALM = "T2S.TEST";

export interface Realm {
  /** For programs that have a ticket of alice. */
  readonly withTicket: NodeJS.ProcessEnv;
  /** For programs that know the realm and have none. */
  readonly withoutTicket: NodeJS.ProcessEnv;
  /** The keytab of rcmd/{@link SERVER_IPV4} and rcmd/proxy.t2s.test. */
  readonly keytab: string;
}

/** Makes a realm, starts its KDC on the server machine, gets alice a ticket on the client's. */
export async function startRealm(world: World): Promise<Realm> {
  const directory = join(world.directory, "krb5");
  mkdirSync(directory);
  // Dante works as nobody.
  chmodSync(world.directory, 0o755);
  const file = (name: string): string => join(directory, name);
  writeFileSync(
    file("krb5.conf"),
    `
[libdefaults]
  default_realm = ${REALM}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  ignore_acceptor_hostname = true
[realms]
  ${REALM} = {
    kdc = ${SERVER_IPV4}:88
  }
[domain_realm]
  .t2s.test = ${REALM}
  ${SERVER_IPV4} = ${REALM}
`,
  );
  writeFileSync(
    file("kdc.conf"),
    `
[kdcdefaults]
  kdc_listen = ${SERVER_IPV4}:88
  kdc_tcp_listen = ${SERVER_IPV4}:88
[realms]
  ${REALM} = {
    database_name = ${file("principal")}
    key_stash_file = ${file("stash")}
    acl_file = ${file("kadm5.acl")}
  }
[logging]
  default = STDERR
`,
  );
  const withoutTicket = {
    ...process.env,
    KRB5_CONFIG: file("krb5.conf"),
    KRB5_KDC_PROFILE: file("kdc.conf"),
    KRB5CCNAME: `FILE:${file("none")}`,
    // It would be left behind in /var/tmp, and takes many connections in one microsecond for a replay.
    KRB5RCACHENAME: "none:",
  };
  const withTicket = { ...withoutTicket, KRB5CCNAME: `FILE:${file("ccache")}` };
  const admin = (...argv: [string, ...string[]]): void => {
    const [command, ...args] = argv;
    const { status, stderr } = spawnSync(command, args, { env: withoutTicket, encoding: "utf8" });
    if (status !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
  };
  const keytab = file("dante.keytab");
  admin("kdb5_util", "create", "-s", "-r", REALM, "-P", "of no use to anybody");
  const services = [`rcmd/${SERVER_IPV4}`, "rcmd/proxy.t2s.test"];
  for (const name of [...services, "alice"]) {
    admin("kadmin.local", "-r", REALM, "addprinc", "-randkey", name);
    const into = name === "alice" ? file("alice.keytab") : keytab;
    admin("kadmin.local", "-r", REALM, "ktadd", "-q", "-k", into, name);
  }
  const kdc = world.start(world.server, ["krb5kdc", "-n", "-r", REALM], { env: withoutTicket });
  await world.bound(world.server, 88).catch((cause) => {
    throw new Error(`the KDC does not listen: ${kdc.stdout}${kdc.stderr}`, { cause });
  });
  const kinit = ["kinit", "-k", "-t", file("alice.keytab"), "alice"];
  const { status, stderr } = await world.run(world.client, kinit, { env: withTicket });
  if (status !== 0) throw new Error(`kinit: ${stderr}`);
  return { withTicket, withoutTicket, keytab };
}

/**
 * Starts Dante with GSSAPI as its only method; `rule` stands in its client rules. Resolves once it listens. `program` is a
 * Dante that was built with GSSAPI: Debian's is not.
 */
export async function startGssDante(
  world: World,
  { keytab, withoutTicket }: Realm,
  port: number,
  rule: string,
  program: string,
): Promise<void> {
  const file = join(world.directory, `danted-gss-${port}.conf`);
  writeFileSync(
    file,
    `
logoutput: stderr
internal: ${SERVER_IPV4} port = ${port}
external: s0
clientmethod: none
socksmethod: gssapi
user.privileged: root
user.unprivileged: nobody
client pass {
  from: 0/0 to: 0/0
  gssapi.keytab: FILE:${keytab}
  gssapi.servicename: rcmd
  ${rule}
}
socks pass { from: 0/0 to: 0/0 protocol: tcp udp }
`,
  );
  const dante = world.start(world.server, [program, "-f", file], { env: withoutTicket });
  await world.bound(world.server, port).catch((cause) => {
    throw new Error(`Dante does not listen: ${dante.stdout}${dante.stderr}`, { cause });
  });
}

/**
 * To which upstream a flow goes, by rules: the first that is for it says so, and the default upstream has the rest.
 *
 * A route is made once for every rule; asking for one allocates nothing. Rules are for flows to the outside, by address or
 * by name: our resolver, the host's loopback and reserved addresses are not theirs.
 */

import { TunnelError } from "../errors.ts";
import { type Action, formatRule, type Protocol, type Rule } from "../rules/rule.ts";
import { NO_RULE, RuleSet } from "../rules/rule-set.ts";
import type { Upstream } from "../socks/ports.ts";
import type { RefuseReason } from "../stack/ports.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { suggestion } from "../suggestion.ts";
import { UdpUpstream } from "./udp-upstream.ts";

/** Where flows go. */
export interface UpstreamRoute {
  readonly kind: "upstream";
  readonly upstream: Upstream;
  /** Null: the relay's own way to the default upstream. */
  readonly udp: UdpUpstream | null;
}

export type Route =
  | UpstreamRoute
  | { readonly kind: "reject"; readonly reason: RefuseReason }
  /** As if nobody were there: no answer. */
  | { readonly kind: "drop" };

export interface RouterUpstreams {
  /** Of flows that no rule is for, and of the action "proxy" without a name. */
  readonly proxy: Upstream;
  /** Without a proxy; null: there is no such way. */
  readonly direct: Upstream | null;
  readonly named: ReadonlyMap<string, Upstream>;
}

export class Router {
  readonly #rules: RuleSet;
  readonly #routes: readonly Route[];
  readonly #default: UpstreamRoute;

  /** @throws TunnelError ERR_USAGE for an action that needs an upstream which is not there, and for too many rules. */
  constructor(rules: readonly Rule[], upstreams: RouterUpstreams) {
    checkUpstreams(rules, upstreams.named.keys());
    this.#rules = new RuleSet(rules);
    this.#default = { kind: "upstream", upstream: upstreams.proxy, udp: null };
    const made = new Map<string, Route>();
    this.#routes = rules.map((rule) => {
      const key = `${rule.action.kind} ${nameOf(rule.action)}`;
      const route = made.get(key) ?? this.#route(rule, upstreams);
      made.set(key, route);
      return route;
    });
  }

  /** The route of a flow; see {@link RuleSet.match}. The same object for all flows of a rule. */
  route(protocol: Protocol, target: Endpoint, name: string | null, hasAddress?: boolean): Route {
    const index = this.#rules.match(protocol, target, name, hasAddress);
    return index === NO_RULE ? this.#default : (this.#routes[index] as Route);
  }

  /** See {@link RuleSet.dependsOnName}. */
  dependsOnName(protocol: Protocol, target: Endpoint): boolean {
    return this.#rules.dependsOnName(protocol, target);
  }

  #route(rule: Rule, { direct, named }: RouterUpstreams): Route {
    const { action } = rule;
    switch (action.kind) {
      case "reject":
        return { kind: "reject", reason: action.by === "rst" ? "reset" : "prohibited" };
      case "drop":
        return { kind: "drop" };
      case "direct":
        if (direct === null) {
          throw new TunnelError(
            "ERR_USAGE",
            `cannot use the rule "${formatRule(rule)}": there is no direct way without the addon; leave it out`,
          );
        }
        return { kind: "upstream", upstream: direct, udp: new UdpUpstream(direct) };
      case "proxy": {
        if (action.name === null) return this.#default;
        const upstream = named.get(action.name) as Upstream;
        return { kind: "upstream", upstream, udp: new UdpUpstream(upstream) };
      }
    }
  }
}

/** @throws TunnelError ERR_USAGE for the first rule that names an upstream which is not among `known`. */
export function checkUpstreams(rules: readonly Rule[], known: Iterable<string>): void {
  const names = new Set(known);
  for (const rule of rules) {
    const { action } = rule;
    if (action.kind === "proxy" && action.name !== null && !names.has(action.name)) {
      throw unknownUpstream(rule, action.name, names);
    }
  }
}

function unknownUpstream(rule: Rule, name: string, known: ReadonlySet<string>): TunnelError {
  const near = suggestion(name, known);
  let remedy = `the upstreams are ${[...known].join(", ")}`;
  if (near !== null) remedy = `did you mean ${near}?`;
  else if (known.size === 0) remedy = "name it under upstreams of --config";
  return new TunnelError(
    "ERR_USAGE",
    `cannot use the rule "${formatRule(rule)}": no upstream is called ${name}; ${remedy}`,
  );
}

function nameOf(action: Action): string {
  if (action.kind === "proxy") return action.name ?? "";
  return action.kind === "reject" ? action.by : "";
}

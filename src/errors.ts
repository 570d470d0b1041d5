/**
 * Every error a user can meet, with a stable code.
 *
 * A message reads "what failed: why; what to do". It never holds a password. The cause travels as
 * `cause`; the command line prints message and code, never a stack trace.
 */

export type ErrorCode =
  | "ERR_USAGE" // bad flag, bad argument
  | "ERR_PROXY_URL" // a proxy URL that cannot be understood, or a scheme we lack
  | "ERR_PROXY_UNREACHABLE" // no TCP connection to the proxy
  | "ERR_PROXY_AUTH" // wrong or missing password, or no method in common
  | "ERR_PROXY_PROTOCOL" // the server does not speak SOCKS5
  | "ERR_PROXY_TIMEOUT" // the server did not answer in time
  | "ERR_PROXY_REFUSED" // the server refused the request (REP of RFC 1928)
  | "ERR_PROXY_LISTEN" // the built-in server cannot listen
  | "ERR_PROXY_OPEN" // the built-in server would be an open proxy
  | "ERR_PERMISSION" // a port or a file that this user may not use
  | "ERR_ADDON_MISSING" // the native addon is not built
  | "ERR_TUN_MISSING" // no /dev/net/tun
  | "ERR_TUN_PERMISSION" // device or CAP_NET_ADMIN denied
  | "ERR_TUN_BUSY" // the device belongs to another process
  | "ERR_TUN_OPEN" // any other failure to open or configure the device
  | "ERR_NAMESPACE" // user, network, mount or pid namespace refused
  | "ERR_COMMAND_NOT_FOUND" // exec: no such command
  | "ERR_COMMAND_NOT_EXECUTABLE" // exec: found, but cannot be run
  | "ERR_MEMORY" // the memory mapping was refused
  | "ERR_CAPTURE" // a capture that is damaged, or none
  | "ERR_INTERNAL"; // a bug of ours

/** The only error class of this package. */
export class TunnelError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "TunnelError";
    this.code = code;
  }
}

/** Exit status of every command but `exec` (sysexits.h: EX_UNAVAILABLE 69, EX_NOPERM 77). */
export function exitStatus(code: ErrorCode): number {
  switch (code) {
    case "ERR_USAGE":
    case "ERR_PROXY_URL":
    case "ERR_PROXY_OPEN":
      return 2;
    case "ERR_PROXY_UNREACHABLE":
    case "ERR_PROXY_AUTH":
    case "ERR_PROXY_PROTOCOL":
    case "ERR_PROXY_TIMEOUT":
    case "ERR_PROXY_REFUSED":
      return 69;
    case "ERR_PERMISSION":
    case "ERR_TUN_PERMISSION":
    case "ERR_NAMESPACE":
      return 77;
    default:
      return 1;
  }
}

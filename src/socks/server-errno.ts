/**
 * What an errno means to the built-in server: the REP of a failed connect, and whether waiting may help.
 */

import { constants } from "node:os";
import { Reply } from "./message.ts";

const { EMFILE, ENFILE, ENOBUFS, ENOMEM } = constants.errno;

/**
 * REP of RFC 1928 §6 for an errno of connect(2). A time-out is 04: 06 tells of an expired IP TTL, which Linux too
 * reports as EHOSTUNREACH. 02 is what a firewall or a prohibiting route says.
 */
export function replyOfErrno(errno: number): number {
  const { errno: code } = constants;
  switch (errno) {
    case code.ECONNREFUSED:
      return Reply.CONNECTION_REFUSED;
    case code.ENETUNREACH:
    case code.ENETDOWN:
      return Reply.NETWORK_UNREACHABLE;
    case code.EHOSTUNREACH:
    case EHOSTDOWN:
    case code.ETIMEDOUT:
      return Reply.HOST_UNREACHABLE;
    case code.EACCES:
    case code.EPERM:
      return Reply.NOT_ALLOWED;
    case code.EAFNOSUPPORT:
      return Reply.ADDRESS_TYPE_NOT_SUPPORTED;
    default:
      return Reply.GENERAL_FAILURE;
  }
}

/** include/uapi/asm-generic/errno.h; node:os does not have it. */
const EHOSTDOWN = 112;

/** True for errno values that say "no descriptor or memory left", which waiting may cure. */
export function isExhaustion(errno: number): boolean {
  return errno === EMFILE || errno === ENFILE || errno === ENOBUFS || errno === ENOMEM;
}

// Headers of messages that anybody may have published. The client library decodes them when they are first asked for, and throws on
// a block that is no header block: a line break inside a value, a space inside a name.

import type { MsgHdrs } from 'nats';

/** What `read` gives; undefined when the message has no headers, or none that can be read. */
export function readHeaders(read: () => MsgHdrs | undefined): MsgHdrs | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

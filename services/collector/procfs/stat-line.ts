// The lines of /proc that are read at every tick, parsed from bytes by hand: the path of every process that runs.
// See proc(5): proc_pid_stat(5), proc_pid_io(5), proc_pid_net(5).

/** Fields of /proc/<pid>/stat, times in clock ticks, memory in pages. One object is filled again and again. */
export interface StatLine {
  /** One letter; `Z` and `X` are the dead that nobody has waited for. */
  state: number;
  ppid: number;
  majorFaults: number;
  reapedMajorFaults: number;
  userTicks: number;
  systemTicks: number;
  reapedUserTicks: number;
  reapedSystemTicks: number;
  threads: number;
  /** Since boot. */
  startTicks: number;
  rssPages: number;
}

export function emptyStatLine(): StatLine {
  return {
    state: 0,
    ppid: 0,
    majorFaults: 0,
    reapedMajorFaults: 0,
    userTicks: 0,
    systemTicks: 0,
    reapedUserTicks: 0,
    reapedSystemTicks: 0,
    threads: 0,
    startTicks: 0,
    rssPages: 0,
  };
}

export const STATE_ZOMBIE = 0x5a; // Z
export const STATE_DEAD = 0x58; // X

const SPACE = 0x20;
const NEWLINE = 0x0a;
const CLOSING = 0x29;
const MINUS = 0x2d;
const FIELDS_MAX = 24;

/**
 * Fills `into` from a stat line. The command in parentheses may contain anything, spaces, parentheses and line breaks
 * included, so fields are counted from the last closing parenthesis: the state is field 3.
 * @returns false if the line is not one
 */
export function parseStat(bytes: Uint8Array, length: number, into: StatLine): boolean {
  let at = length - 1;
  while (at >= 0 && bytes[at] !== CLOSING) at--;
  if (at < 0 || at + 2 >= length) return false;
  into.state = bytes[at + 2] as number;
  at += 4;
  for (let field = 4; field <= FIELDS_MAX; field++) {
    if (at >= length) return false;
    let value = 0;
    const isNegative = bytes[at] === MINUS;
    for (let byte = bytes[at] as number; at < length && byte !== SPACE && byte !== NEWLINE; byte = bytes[++at] as number) {
      value = value * 10 + (byte - 0x30);
    }
    at++;
    setField(into, field, isNegative ? 0 : value);
  }
  return true;
}

function setField(into: StatLine, field: number, value: number): void {
  switch (field) {
    case 4:
      into.ppid = value;
      break;
    case 12:
      into.majorFaults = value;
      break;
    case 13:
      into.reapedMajorFaults = value;
      break;
    case 14:
      into.userTicks = value;
      break;
    case 15:
      into.systemTicks = value;
      break;
    case 16:
      into.reapedUserTicks = value;
      break;
    case 17:
      into.reapedSystemTicks = value;
      break;
    case 20:
      into.threads = value;
      break;
    case 22:
      into.startTicks = value;
      break;
    case 24:
      into.rssPages = value;
      break;
    default:
      break;
  }
}

/** `read_bytes` and `write_bytes` of /proc/<pid>/io: what really went to and from storage. */
export interface IoCounters {
  readBytes: number;
  writeBytes: number;
}

const READ_BYTES = Buffer.from('\nread_bytes: ');
const WRITE_BYTES = Buffer.from('\nwrite_bytes: ');

/** @returns false if the counters are not in it */
export function parseIo(bytes: Buffer, length: number, into: IoCounters): boolean {
  const read = valueAfter(bytes, length, READ_BYTES);
  const write = valueAfter(bytes, length, WRITE_BYTES);
  if (read === null || write === null) return false;
  into.readBytes = read;
  into.writeBytes = write;
  return true;
}

/** The number behind the first `key` in the first `length` bytes, and behind spaces; null when there is none. */
export function valueAfter(bytes: Buffer, length: number, key: Buffer): number | null {
  const found = bytes.indexOf(key);
  if (found === -1) return null;
  let start = found + key.length;
  while (start < length && bytes[start] === SPACE) start++;
  let value = 0;
  let at = start;
  for (; at < length; at++) {
    const digit = (bytes[at] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    value = value * 10 + digit;
  }
  return at === start ? null : value;
}

/** Sums the interfaces of /proc/<pid>/net/dev except the loopback. */
export function parseNetDev(text: string): { rxBytes: number; txBytes: number } {
  let rxBytes = 0;
  let txBytes = 0;
  for (const line of text.split('\n').slice(2)) {
    const colon = line.lastIndexOf(':');
    if (colon === -1 || line.slice(0, colon).trim() === 'lo') continue;
    const fields = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/);
    rxBytes += Number(fields[0] ?? 0);
    txBytes += Number(fields[8] ?? 0);
  }
  return { rxBytes, txBytes };
}

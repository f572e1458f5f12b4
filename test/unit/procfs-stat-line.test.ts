import { describe, expect, test } from 'vitest';
import { parseAuxv } from '../../services/collector/procfs/kernel-facts.ts';
import { emptyStatLine, parseIo, parseNetDev, parseStat, STATE_ZOMBIE } from '../../services/collector/procfs/stat-line.ts';

// Fields from the state on, as Linux 6.18 writes them.
const FIELDS = 'S 12 123 123 0 -1 4194560 6519 9171 21 43 250 31 77 8 20 0 11 0 12345 1131413504 16384 18446744073709551615 1 1 0 0 0';
const PARSED = {
  state: 0x53,
  ppid: 12,
  majorFaults: 21,
  reapedMajorFaults: 43,
  userTicks: 250,
  systemTicks: 31,
  reapedUserTicks: 77,
  reapedSystemTicks: 8,
  threads: 11,
  startTicks: 12345,
  rssPages: 16384,
};

function parse(line: string, after = ''): ReturnType<typeof emptyStatLine> | null {
  // The buffer is reused, so what an earlier, longer file left behind follows the line.
  const bytes = Buffer.from(line + after);
  const into = emptyStatLine();
  return parseStat(bytes, Buffer.byteLength(line), into) ? into : null;
}

describe('parseStat', () => {
  test.each(['node', 'a) b) (c', ') S 1 1 1', '', '((((', 'two\nlines', 'ü€', ' '])(
    'takes the fields after the last closing parenthesis: command %j',
    (command) => {
      expect(parse(`123 (${command}) ${FIELDS}\n`)).toEqual(PARSED);
      expect(parse(`123 (${command}) ${FIELDS}\n`, '9 (x) Z 1 2 3')).toEqual(PARSED);
    },
  );

  test('reads a zombie, and a counter the kernel prints as negative as 0', () => {
    expect(parse(`123 (sh) ${FIELDS.replace('S 12', 'Z 12')}\n`)?.state).toBe(STATE_ZOMBIE);
    expect(parse(`123 (sh) ${FIELDS.replace('77 8', '-1 8')}\n`)?.reapedUserTicks).toBe(0);
  });

  test('what is not a whole stat line is none', () => {
    for (const line of ['', '123', '123 (sh', '123 (sh)', '123 (sh) S', `123 (sh) ${FIELDS}`.slice(0, 60)])
      expect(parse(line), line).toBeNull();
  });
});

describe('parseIo', () => {
  const text = 'rchar: 99\nwchar: 98\nsyscr: 3\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 7\n';

  test('takes what went to storage, not what was read through the cache', () => {
    const into = { readBytes: -1, writeBytes: -1 };
    expect(parseIo(Buffer.from(text), text.length, into)).toBe(true);
    expect(into).toEqual({ readBytes: 4096, writeBytes: 8192 });
  });

  test('never looks behind the end of the file', () => {
    const into = { readBytes: -1, writeBytes: -1 };
    expect(parseIo(Buffer.from(text), text.indexOf('write_bytes'), into)).toBe(false);
    expect(parseIo(Buffer.from(''), 0, into)).toBe(false);
  });
});

test('parseNetDev sums the interfaces without the loopback, also where the number follows the colon at once', () => {
  const text = [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
    '    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0',
    '  eth0: 1000    6842    0    0    0     0          0         0   20    4161    0    0    0     0       0          0',
    'veth1:500 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0',
    '',
  ].join('\n');
  expect(parseNetDev(text)).toEqual({ rxBytes: 1500, txBytes: 26 });
  expect(parseNetDev('')).toEqual({ rxBytes: 0, txBytes: 0 });
});

test('parseAuxv reads words of either size and order', () => {
  const big = Buffer.alloc(32);
  big.writeBigUInt64LE(17n, 0);
  big.writeBigUInt64LE(100n, 8);
  expect(parseAuxv(big, 8, 'LE').get(17)).toBe(100);
  const small = Buffer.alloc(12);
  small.writeUInt32BE(6, 0);
  small.writeUInt32BE(65536, 4);
  expect([...parseAuxv(small, 4, 'BE')]).toEqual([[6, 65536]]);
});

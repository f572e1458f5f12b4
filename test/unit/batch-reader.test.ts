import { expect, test } from 'vitest';
import { BATCH_BYTES_MAX, BATCH_UNITS_MAX, checkBatch } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import { batch } from '../support/batches.ts';

const text = JSON.stringify(batch({ tick: 1, units: ['a', 'b', 'c'], metrics: { cpu_percent: [1.25, null, 3], rss_bytes: 4096 } }));

test.each([
  ['a name twice', '"a","b","c"', '"a","b","a"'],
  ['the known names in another order', '"a","b","c"', '"b","a","c"'],
  ['a name with an escape', '"a","b","c"', '"a","b","\\u0063"'],
  ['no units', '"a","b","c"', ''],
  ['more digits than are exact', '1.25', '0.12345678901234567'],
  ['more digits than are exact, most of them before the point', '1.25', '12345678.901234567'],
  ['as many digits as are exact', '1.25', '1234567890.12345'],
  ['an exponent', '1.25', '125e-2'],
  ['a point without decimals', '1.25', '1.'],
  ['a leading zero', '1.25', '01.25'],
  ['what is not null', '1.25', 'nul5'],
  ['more than null', '1.25', 'null5'],
  ['null and decimals', '1.25', 'null.5'],
  ['a fraction of a byte', '4096,4096', '4096.0,4096.5'],
  ['a fraction that is whole', '4096,4096', '4096.0,4096'],
  ['the largest whole number', '4096,4096', '9007199254740991,4096'],
  ['more than the largest whole number', '4096,4096', '9007199254740993,4096'],
  ['too few values', '4096,4096,4096', '4096,4096'],
  ['too many values', '4096,4096,4096', '4096,4096,4096,4096'],
  ['a metric twice', ',"rss_bytes":', ',"rss_bytes":[1,2,3],"rss_bytes":'],
  ['a metric that is not known', ',"rss_bytes":', ',"later":[1,2,3],"rss_bytes":'],
  ['white space', '"tick":1', '"tick": 1'],
  ['a part without parts', ',"unit":', ',"part":0,"unit":'],
  ['the last of two parts', ',"unit":', ',"part":1,"parts":2,"unit":'],
  ['a part behind the last', ',"unit":', ',"part":2,"parts":2,"unit":'],
  ['more parts than a tick may have', ',"unit":', ',"part":1,"parts":10001,"unit":'],
  ['no interval', '"interval_ms":1000', '"interval_ms":0'],
  ['a boot of no length', '"boot":"boot1"', '"boot":""'],
  ['a boot that is too long', '"boot":"boot1"', `"boot":"${'b'.repeat(65)}"`],
  ['a list that has only begun', '["a","b","c"]', '['],
  ['lists that have only begun', '["a","b","c"],"state":["running","running","running"]', '[,"state":['],
  ['something behind the end', '}', '} '],
])('%s is read as the schema reads it', (_, part, other) => {
  expect(text).toContain(part);
  const data = Buffer.from(text.replace(part, other));
  for (const known of [undefined, [], ['a', 'b', 'c'], ['a', 'b', '\u0080'], ['a', 'b', '"']])
    expect(parseBatch(data, 'h1', () => known)).toEqual(checkBatch(data, 'h1'));
});

test('bytes that are no text are refused, also where a known unit looks like them', () => {
  const data = Buffer.from(text.replace('"c"', '"?"'));
  data[data.indexOf('?')] = 0x80;
  for (const known of [undefined, ['a', 'b', '\u0080']])
    expect(parseBatch(data, 'h1', () => known)).toMatchObject({ ok: false, reason: 'not_json' });
});

test('more units than a batch may have are refused, though they fit a message', () => {
  const units = Array.from({ length: BATCH_UNITS_MAX + 1 }, (_, i) => `${i}`);
  const data = Buffer.from(JSON.stringify(batch({ tick: 1, units })));
  expect(data.length).toBeLessThan(BATCH_BYTES_MAX);
  expect(parseBatch(data, 'h1')).toMatchObject({ ok: false, reason: 'too_many_units' });
});

test('a host that cannot be one is refused, also when its subject says the same', () => {
  for (const host of ['', 'x'.repeat(256)])
    expect(parseBatch(Buffer.from(JSON.stringify(batch({ tick: 1, host }))), host)).toMatchObject({ ok: false, reason: 'bad_name' });
});

// The store's queries on the bus: requests in, pages of the window out.

import type { z } from 'zod';
import { requests } from '#shared/contract/queries';
import { type Endpoint, endpoint, JsonText } from '#shared/nats/query-service';
import { coverage, knownSeries, latest, range, rangePoints, type SamplesPage, snapshot, summary, units } from './core/window-queries.ts';
import type { StoreShard } from './store-shard.ts';

/** A query that looks at the window; before the log has been read, it is refused. */
function onWindow<Schema extends z.ZodType>(shard: StoreShard, request: Schema, answer: (request: z.infer<Schema>) => unknown): Endpoint {
  return endpoint(request, (given) => {
    shard.assertAnswering();
    return answer(given);
  });
}

export function storeEndpoints(shard: StoreShard): Record<string, Endpoint> {
  return {
    units: onWindow(shard, requests.units, (request) => units(shard.window, request.host, request.cursor ?? null)),
    latest: onWindow(shard, requests.latest, ({ host, unit, limit, cursor }) =>
      samplesReply(latest(shard.window, host, unit, limit, shard.retentionMs, cursor ?? null)),
    ),
    snapshot: onWindow(shard, requests.snapshot, ({ host, unit, cursor }) =>
      samplesReply(snapshot(shard.window, host, unit, shard.retentionMs, cursor ?? null)),
    ),
    summary: onWindow(shard, requests.summary, ({ host, unit, since_ms }) =>
      summary(shard.window, host, unit, since_ms, shard.retentionMs),
    ),
    range: onWindow(shard, requests.range, ({ host, unit, from_ms, to_ms, max_points, cursor }) => {
      const { window, position, hasSpilled } = shard;
      const spans = coverage(window, host, unit, from_ms, to_ms);
      if (max_points !== undefined)
        return {
          ...rangePoints(window, host, unit, from_ms, to_ms, max_points, cursor ?? null),
          coverage: spans,
          position,
          spilled: hasSpilled,
        };
      return samplesReply(range(window, host, unit, from_ms, to_ms, cursor ?? null), { coverage: spans, position, spilled: hasSpilled });
    }),
    remove: onWindow(shard, requests.remove, ({ host, unit }) => {
      knownSeries(shard.window, host, unit);
      return shard.removals.request({ host, unit });
    }),
    info: endpoint(requests.info, () => shard.info()),
  };
}

function samplesReply(page: SamplesPage, rest: Record<string, unknown> = {}): JsonText {
  const tail = JSON.stringify({ next: page.next, ...rest }).slice(1);
  return new JsonText(`{"samples":[${page.samples.join(',')}],${tail}`);
}

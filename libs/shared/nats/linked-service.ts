// A service whose work is one observable over one connection: the single place where it is subscribed to.

import type { Observable } from 'rxjs';
import type { RunningService } from '#shared/runtime/service';
import type { NatsLink } from './connection.ts';

export interface LinkedServiceParts {
  /** Completes after `halt` has aborted and what was under way is done; fails when the service cannot go on. */
  readonly work: Observable<unknown>;
  readonly link: NatsLink;
  readonly halt: AbortController;
  /** Closes what the service holds beside its connection. */
  readonly close: () => Promise<void>;
}

/** Subscribes to the work. `done` fails when the work does, or when the connection is closed for good. */
export function linkedService({ work, link, halt, close }: LinkedServiceParts): RunningService {
  const finished = new Promise<void>((complete, error) => {
    work.subscribe({ complete, error });
  });
  const closed = link.closed.then(() => {
    if (!halt.signal.aborted) throw new Error('the NATS connection was closed');
  });
  const done = Promise.race([finished, closed]);
  done.catch(() => undefined); // whoever waits for it is told; until somebody does, it is not an unhandled rejection
  return {
    done,
    stop: async () => {
      halt.abort();
      await finished.catch(() => undefined);
      await close();
      await link.close();
    },
  };
}

// One nats-server for all tests of a file, and after each of them what it has opened is closed again.

import { afterAll, afterEach, beforeAll } from 'vitest';
import { startNatsServer, type TestServer } from './nats-server.ts';

export interface SharedServer {
  readonly url: string;
  /** Run after the test, the last one first. */
  readonly cleanups: (() => Promise<void> | void)[];
}

/** To be called at the top of a test file. */
export function sharedServer(): SharedServer {
  let server: TestServer;
  const cleanups: SharedServer['cleanups'] = [];
  beforeAll(async () => {
    server = await startNatsServer();
  });
  afterAll(() => server.stop());
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
  return {
    get url() {
      return server.url;
    },
    cleanups,
  };
}

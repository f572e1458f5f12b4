// One service in this process: `spillway collector`, `store` or `spillover`.

import type { Config } from '#shared/runtime/config';
import { createLogger, type Logger } from '#shared/runtime/logging';
import { type RunningService, runService } from '#shared/runtime/service';
import { onHangUp } from './hang-up.ts';
import { type GlobalOptions, serviceConfig } from './session.ts';

export const SERVICE_NAMES = ['collector', 'store', 'spillover'] as const;
export type ServiceName = (typeof SERVICE_NAMES)[number];

type Start = (given: { config: Config; logger: Logger; stopping: AbortSignal; reload: () => Config }) => Promise<RunningService>;

/** Loaded when it is needed: a collector does not carry the store's code in its memory. */
const STARTS: Readonly<Record<ServiceName, () => Promise<Start>>> = {
  collector: async () => (await import('../services/collector/main.ts')).startCollector,
  store: async () => (await import('../services/store/main.ts')).startStore,
  spillover: async () => (await import('../services/spillover/main.ts')).startSpillover,
};

/** Runs until it is told to stop. @returns the exit code */
export async function serve(name: ServiceName, options: GlobalOptions): Promise<number> {
  const config = serviceConfig(options);
  const logger = createLogger(name, config.log_level);
  const start = await STARTS[name]();
  stopWithParent();
  if (name === 'collector') onHangUp(() => process.kill(process.pid, 'SIGTERM'));
  return runService(logger, (stopping) => start({ config, logger, stopping, reload: () => serviceConfig(options) }));
}

/** Under a supervisor there is a channel to it. When it closes, the supervisor is gone, whatever way, and nobody would stop us. */
function stopWithParent(): void {
  if (process.connected) process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
}

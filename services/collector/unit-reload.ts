// The configuration, read again while the collector runs: its units are taken at the next tick. One that is wrong changes nothing and
// is reported until a right one is there. What else it says takes effect when the collector is started again.

import { type Config, ConfigError } from '#shared/runtime/config';
import { FileWatch } from '#shared/runtime/file-watch';
import type { Logger } from '#shared/runtime/logging';
import type { SetupError } from '#shared/runtime/service';
import type { PublicationLimits } from './core/publication.ts';
import type { UnitTarget } from './core/unit-target.ts';

const TAKEN_KEYS: ReadonlySet<string> = new Set(['units', 'units_max', 'own_unit', 'given', 'file']);

export class UnitReload {
  readonly #read: () => Config;
  readonly #logger: Logger;
  readonly #file: FileWatch | null;
  #config: Config;
  #waiting: Config | null = null;
  #problem: string | null = null;

  /** @param config in force @param read may throw a {@link ConfigError} */
  constructor(config: Config, read: () => Config, logger: Logger) {
    this.#config = config;
    this.#read = read;
    this.#logger = logger;
    this.#file = config.file === null ? null : new FileWatch(config.file);
  }

  /** In force; of what is read again only its units are. */
  get config(): Config {
    return this.#config;
  }

  /** Why the configuration that is there now is not in force; null when it is. */
  get problem(): string | null {
    return this.#problem;
  }

  /** To be called now and then: reads the file when it has changed. */
  look(): void {
    if (this.#file?.hasChanged() === true) this.load();
  }

  load(): void {
    try {
      this.#waiting = this.#read();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      this.refuse(error);
    }
  }

  /** What was read and waits to be taken; null when there is nothing. */
  take(): Config | null {
    const waiting = this.#waiting;
    this.#waiting = null;
    return waiting;
  }

  /** Its units are in force. */
  took(config: Config): void {
    const others = Object.keys(config).filter((key) => !TAKEN_KEYS.has(key) && isOther(key as keyof Config, config, this.#config));
    this.#config = config;
    this.#problem = null;
    this.#logger.info({ file: config.file, units: Object.keys(config.units).length }, 'the units of the configuration were read again');
    if (others.length > 0) this.#logger.warn({ keys: others }, 'these keys have changed as well; start the collector again to use them');
  }

  /** What was read cannot be used. */
  refuse(error: ConfigError | SetupError): void {
    this.#waiting = null;
    this.#problem = `the changed configuration is not used, the units are those from before: ${error.message}`;
    this.#logger.error({ reason: error.message }, 'the changed configuration is not used, the units are those from before');
  }
}

export function limitsOf(config: Pick<Config, 'units_max'>, targets: readonly UnitTarget[]): PublicationLimits {
  const all = targets.map(({ rule }) => rule).find((rule) => rule.kind === 'all');
  return { unitsMax: config.units_max, top: all === undefined ? null : { count: all.top, by: all.by } };
}

function isOther(key: keyof Config, a: Config, b: Config): boolean {
  return JSON.stringify(a[key]) !== JSON.stringify(b[key]);
}

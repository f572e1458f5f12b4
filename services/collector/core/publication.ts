// Which samples of a tick are published: of all processes only the first, the others summed as one unit, so that the sum over
// what is published is the sum over what there is; and never more units than are allowed.

import { METRICS, type MetricName } from '#shared/contract/metrics';
import { OTHER_UNIT } from '#shared/contract/name-template';
import { type UnitSample, unknownMetrics } from './unit-tracker.ts';
import type { UnitEvent } from './unit-watch.ts';

export interface NamedSample {
  readonly unit: string;
  readonly sample: UnitSample;
  /** Of the unit that has all processes: it has to earn its place. */
  readonly isRanked: boolean;
}

export interface PublicationLimits {
  readonly unitsMax: number;
  /** For the ranked: how many, and by what. Null: there are none. */
  readonly top: { readonly count: number; readonly by: 'cpu' | 'memory' } | null;
}

export interface Published {
  readonly units: readonly string[];
  readonly samples: readonly UnitSample[];
  /** Of units that are published, or were before this tick; and that the limit is reached. */
  readonly events: readonly UnitEvent[];
  /** Units beyond the limit. */
  readonly leftOut: number;
}

export class Publication {
  limits: PublicationLimits;
  readonly #others = new Others();
  #published: ReadonlySet<string> = new Set();
  #isLimited = false;

  constructor(limits: PublicationLimits) {
    this.limits = limits;
  }

  choose(all: readonly NamedSample[], events: readonly UnitEvent[]): Published {
    const before = this.#published;
    const shown = this.#ranked(all);
    const { kept, first } = this.#withinLimit(shown);
    this.#published = new Set(kept.map(({ unit }) => unit));
    const reported = events.filter(({ unit }) => this.#published.has(unit) || before.has(unit));
    if (first !== null && !this.#isLimited) {
      const { pid, started } = first.sample;
      reported.push({ unit: first.unit, event: 'left_out', pid, started });
    }
    this.#isLimited = first !== null;
    return {
      units: kept.map(({ unit }) => unit),
      samples: kept.map(({ sample }) => sample),
      events: reported,
      leftOut: shown.length - kept.length,
    };
  }

  /** The others are summed and come first: their sum is worth more than any one that a limit would leave out. */
  #ranked(all: readonly NamedSample[]): readonly NamedSample[] {
    const { top } = this.limits;
    if (top === null) return all;
    const metric = top.by === 'cpu' ? 'cpu_percent' : 'rss_bytes';
    const value = ({ sample }: NamedSample, name: MetricName): number => sample.metrics[name] ?? -1;
    const ranked = all
      .filter(({ isRanked, sample }) => isRanked && sample.state !== 'missing')
      .sort((a, b) => value(b, metric) - value(a, metric) || value(b, 'rss_bytes') - value(a, 'rss_bytes'));
    const first = new Set(ranked.slice(0, top.count));
    // One that has ended is shown missing once, if it was shown.
    const shown = all.filter((one) => !one.isRanked || first.has(one) || (one.sample.state === 'missing' && this.#published.has(one.unit)));
    const other = this.#others.sum(ranked, first);
    return [{ unit: OTHER_UNIT, sample: other, isRanked: false }, ...shown];
  }

  /** Whoever is published stays; new ones come in while there is room. The first that is left out, or null. */
  #withinLimit(all: readonly NamedSample[]): { kept: readonly NamedSample[]; first: NamedSample | null } {
    const { unitsMax } = this.limits;
    if (all.length <= unitsMax) return { kept: all, first: null };
    let room = unitsMax - all.filter(({ unit }) => this.#published.has(unit)).length;
    const kept: NamedSample[] = [];
    let first: NamedSample | null = null;
    for (const one of all) {
      const isKept = this.#published.has(one.unit) ? kept.length < unitsMax : room-- > 0;
      if (isKept) kept.push(one);
      else first ??= one;
    }
    return { kept, first };
  }
}

/** Sums units that come and go. Its counters take what each added while it was among them, so they never go back. */
class Others {
  #before = new Map<string, UnitSample>();
  readonly #counters = new Map<MetricName, number>();

  sum(ranked: readonly NamedSample[], first: ReadonlySet<NamedSample>): UnitSample {
    const others = ranked.filter((one) => !first.has(one));
    const metrics = unknownMetrics();
    for (const { name, kind, unit } of METRICS) {
      if (kind === 'counter') {
        const grown = others.reduce((total, one) => total + this.#growth(one, name), this.#counters.get(name) ?? 0);
        this.#counters.set(name, grown);
        metrics[name] = others.some(({ sample }) => sample.metrics[name] === null) ? null : grown;
      } else {
        metrics[name] = sumOf(others, name, unit === '%');
      }
    }
    this.#before = new Map(ranked.map(({ unit, sample }) => [unit, sample]));
    return { state: others.length > 0 ? 'running' : 'missing', pid: null, started: null, metrics };
  }

  /** Since the last tick; of a new one nothing is known yet. */
  #growth({ unit, sample }: NamedSample, name: MetricName): number {
    const before = this.#before.get(unit);
    if (before === undefined || before.pid !== sample.pid || before.started !== sample.started) return 0;
    return Math.max(0, (sample.metrics[name] ?? 0) - (before.metrics[name] ?? sample.metrics[name] ?? 0));
  }
}

/**
 * Null when nothing is known, or not everything: a sum of a part would be a wrong number.
 * @param isRate a new unit has no rate yet, in no sum
 */
function sumOf(others: readonly NamedSample[], name: MetricName, isRate: boolean): number | null {
  const values = others.map(({ sample }) => sample.metrics[name]);
  const known = values.filter((value) => value !== null);
  if (known.length === 0 || (!isRate && known.length < values.length)) return null;
  const total = known.reduce((sum, value) => sum + value, 0);
  return isRate ? Math.round(total * 100) / 100 : total;
}

// Which metrics the samples of this collector have beside those of every sample.

import { EXTRA_METRICS, type ExtraMetricName } from '#shared/contract/metrics';
import type { Config } from '#shared/runtime/config';

/** In table order. */
export function extraMetrics(config: Pick<Config, 'metrics_extra' | 'peak'>): ExtraMetricName[] {
  const named: readonly ExtraMetricName[] = config.metrics_extra;
  return EXTRA_METRICS.filter(({ name, key }) => (key === 'peak' ? config.peak : named.includes(name))).map(({ name }) => name);
}

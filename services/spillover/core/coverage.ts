// For which times the spill can answer, and where it knows that something is missing. Pure.

import type { CoverageSpan } from '#shared/contract/queries';

/** Why positions are missing. `hole`: never delivered. `lost`: their segment was deleted by somebody else. */
export type GapReason = 'hole' | 'lost';

/** Positions `[from, to)` of a log that are not in the files and should be. */
export interface Gap {
  readonly log: number;
  readonly from: number;
  readonly to: number;
  /** Bounds of the time of what is missing, ms; null where not known. */
  readonly from_ms: number | null;
  readonly to_ms: number | null;
  readonly reason: GapReason;
}

export interface CoveredSegment {
  readonly log: number;
  readonly first: number;
  readonly last: number;
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

/**
 * Spans within the request, both ends included. Segments that follow each other are one span, also over the time between
 * them: nothing was sampled there. A gap ends a span; it is in the answer when both its times are known.
 */
export function coverageOf(segments: readonly CoveredSegment[], gaps: readonly Gap[], fromMs: number, toMs: number): CoverageSpan[] {
  const spans: CoverageSpan[] = [];
  let open: CoverageSpan | null = null;
  let previous: CoveredSegment | null = null;
  for (const segment of segments) {
    if (segment.fromMs === null || segment.toMs === null) continue;
    if (open !== null && previous !== null && isContinued(previous, segment, gaps)) {
      open.from_ms = Math.min(open.from_ms, segment.fromMs);
      open.to_ms = Math.max(open.to_ms, segment.toMs);
    } else {
      open = { from_ms: segment.fromMs, to_ms: segment.toMs, source: 'spill' };
      spans.push(open);
    }
    previous = segment;
  }
  for (const gap of gaps) {
    if (gap.from_ms !== null && gap.to_ms !== null && gap.from_ms <= gap.to_ms)
      spans.push({ from_ms: gap.from_ms, to_ms: gap.to_ms, source: 'gap' });
  }
  return spans.flatMap(({ from_ms, to_ms, source }) => {
    const clipped = { from_ms: Math.max(from_ms, fromMs), to_ms: Math.min(to_ms, toMs), source };
    return clipped.from_ms <= clipped.to_ms ? [clipped] : [];
  });
}

function isContinued(before: CoveredSegment, after: CoveredSegment, gaps: readonly Gap[]): boolean {
  if (before.log !== after.log) return false;
  return !gaps.some((gap) => gap.log === after.log && gap.from <= after.first && gap.to > before.last);
}

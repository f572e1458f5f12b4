// Names and identities in the window, each held once: hosts, their series, the sources of their batches, and shapes.
// Everything else in the window refers to them by small integers.
//
//   source  one collector start (host, boot) and one part of its ticks; knows which ticks are in the window
//   shape   the series of a batch in their order; the same from tick to tick, so it is stored once
//
// An id is freed only when the last block that may mention it is dropped (`release`), never when its last row is evicted:
// a reused id must not be found in an old block.
//
// A removed series loses its name and keeps its id: nothing finds it by name any more, its rows leave with the blocks that
// hold them, and when the name comes again it is another series.

import type { Batch } from '#shared/contract/batch';
import { unitHash } from '#shared/contract/series';
import { capacityWith, grown } from './columns.ts';
import { Incarnations, NO_INCARNATION } from './incarnations.ts';
import { IntervalSet, RANGE_BYTES } from './interval-set.ts';

export interface Host {
  readonly name: string;
  readonly series: Map<string, number>;
  readonly sources: Map<string, number>;
}

export interface Source {
  readonly host: Host;
  readonly key: string;
  readonly ticks: IntervalSet;
  /** Batches in the window. */
  batches: number;
  /** Of its newest batch: the next one usually has the same. -1 when that is not held any more. */
  shape: number;
  /** Names of the series of that shape; none once one of them has been removed, or when a later start of the collector is known. */
  units: readonly string[];
}

interface Shape {
  readonly series: Uint32Array;
  readonly host: Host;
  batches: number;
}

/** Held on the heap beside the bytes of a name and the typed arrays; measured over 100 000 series. */
const SERIES_BYTES = 80;
/** In the typed arrays by series. */
const SERIES_ARRAY_BYTES = 4 + 8 + 4 + 4 + 1 + 8;
const HOST_BYTES = 600;
const SOURCE_BYTES = 600;
const SHAPE_BYTES = 250;
const SHAPE_SERIES_BYTES = 4;
const GROWTH = 1.5;
/** In the list of a source: a reference to a name. */
const UNIT_BYTES = 8;

export class Catalog {
  private readonly hosts = new Map<string, Host>();
  private readonly sources: (Source | undefined)[] = [];
  private readonly shapes: (Shape | undefined)[] = [];
  private readonly freeSeries: number[] = [];
  private readonly freeSources: number[] = [];
  private readonly freeShapes: number[] = [];
  private seriesHost: (Host | undefined)[] = [];
  private seriesUnit: string[] = [];
  private shapesOfHost = new Map<Host, number[]>();
  private nameBytes = 0;
  private shapeBytes = 0;
  private sourceBytes = 0;
  private seriesCount = 0;
  /** Units of a batch, and the shape they were found to have: a batch is asked about before it is taken. */
  private found: { units: readonly string[]; host: Host; shape: number } | null = null;

  /** Rows in the window, by series; of a removed one, those that blocks and head still hold. */
  rows = new Uint32Array(0);
  /** Largest `ts` among them, and the incarnation of that sample. Stale when `isStale` is 1: the sample has been evicted. */
  newestTs = new Float64Array(0);
  newestIncarnation = new Uint32Array(0);
  isStale = new Uint8Array(0);
  readonly incarnations = new Incarnations();
  /** The last one added, by series. */
  private lastIncarnation = new Uint32Array(0);
  /** Of the unit, two words for each series; 0 until it is asked for. Making one costs as much as writing several rows. */
  private hashes = new Uint32Array(0);

  /** Bytes held for names, indexes and identities. */
  get bytes(): number {
    const bytes = this.seriesCount * SERIES_BYTES + this.rows.length * SERIES_ARRAY_BYTES + this.nameBytes + this.shapeBytes;
    return bytes + this.hosts.size * HOST_BYTES + this.sourceBytes + this.incarnations.bytes;
  }

  /** Series that are named in the window, with rows or without. */
  get seriesHeld(): number {
    return this.seriesCount;
  }

  /** Above every id of a series. */
  get seriesEnd(): number {
    return this.seriesHost.length;
  }

  /** Series with rows. */
  get size(): number {
    let size = 0;
    for (const host of this.hosts.values()) for (const id of host.series.values()) if ((this.rows[id] as number) > 0) size++;
    return size;
  }

  host(name: string): Host | undefined {
    return this.hosts.get(name);
  }

  /** @returns undefined when nothing of it is in the window */
  series(host: string, unit: string): number | undefined {
    const id = this.hosts.get(host)?.series.get(unit);
    return id === undefined || this.rows[id] === 0 ? undefined : id;
  }

  /** Ids of the series with rows that match; in no particular order. */
  matching(host: string | undefined, unit: string | undefined): number[] {
    const hosts = host === undefined ? [...this.hosts.values()] : [this.hosts.get(host)].filter((one) => one !== undefined);
    const ids: number[] = [];
    for (const one of hosts) {
      if (unit === undefined) ids.push(...one.series.values());
      else {
        const id = one.series.get(unit);
        if (id !== undefined) ids.push(id);
      }
    }
    return ids.filter((id) => (this.rows[id] as number) > 0);
  }

  /** Bytes that a batch may add: of series that are not known, with what holds them, of its units in another order, of its tick, and of new incarnations. */
  growthOf({ host: hostName, boot, part, unit: units }: Batch): number {
    const host = this.hosts.get(hostName);
    const source = host && this.sourceOf(host, boot, part);
    const shape = source !== undefined && this.isOf(source, units) ? source.shape : host && this.shapeOf(host, units);
    const ofRows = RANGE_BYTES + this.incarnations.growthOf(units.length);
    this.found = host === undefined || shape === undefined ? null : { units, host, shape };
    const ofSource = source === undefined ? SOURCE_BYTES : 0;
    if (this.found !== null) return ofSource + (source?.shape === shape ? 0 : units.length * UNIT_BYTES) + ofRows;
    let bytes = (host === undefined ? HOST_BYTES : 0) + ofSource + SHAPE_BYTES + units.length * (SHAPE_SERIES_BYTES + UNIT_BYTES);
    let unknown = 0;
    for (const unit of units) {
      if (host?.series.has(unit)) continue;
      unknown++;
      bytes += SERIES_BYTES + unit.length;
    }
    const { length } = this.rows;
    const capacity = capacityWith(length, this.seriesHost.length - this.freeSeries.length + unknown, GROWTH);
    return bytes + (capacity - length) * SERIES_ARRAY_BYTES + ofRows;
  }

  hostOf(series: number): Host {
    return this.seriesHost[series] as Host;
  }

  unitOf(series: number): string {
    return this.seriesUnit[series] as string;
  }

  hashOf(series: number): string {
    return hex(this.hashWord(series, 0)) + hex(this.hashWord(series, 1));
  }

  /** Eight hex digits of the hash as a number: the first (0) or the last (1). Written as text they cost more than the rest of a row. */
  hashWord(series: number, word: 0 | 1): number {
    const at = 2 * series;
    if (this.hashes[at] === 0 && this.hashes[at + 1] === 0) {
      const hash = unitHash(this.hostOf(series).name, this.unitOf(series));
      this.hashes[at] = Number.parseInt(hash.slice(0, 8), 16);
      this.hashes[at + 1] = Number.parseInt(hash.slice(8), 16);
    }
    return this.hashes[at + word] as number;
  }

  source(id: number): Source {
    return this.sources[id] as Source;
  }

  /** Series ids of a shape, in the order of the batch. */
  shape(id: number): Uint32Array {
    return (this.shapes[id] as Shape).series;
  }

  /** Units of the newest batch of a collector's start, in their order; undefined when they are not known. */
  knownUnits(hostName: string, boot: string, part: number | undefined): readonly string[] | undefined {
    const host = this.hosts.get(hostName);
    const source = host && this.sourceOf(host, boot, part);
    return source === undefined || source.units.length === 0 ? undefined : source.units;
  }

  private sourceOf(host: Host, boot: string, part: number | undefined): Source | undefined {
    const id = host.sources.get(sourceKey(boot, part));
    return id === undefined ? undefined : this.sources[id];
  }

  /** Id of the source, made if it is new. */
  sourceFor(hostName: string, boot: string, part: number | undefined): number {
    const host = this.hosts.get(hostName) ?? this.addHost(hostName);
    const key = sourceKey(boot, part);
    const known = host.sources.get(key);
    if (known !== undefined) return known;
    const id = this.freeSources.pop() ?? this.sources.length;
    // Those of earlier starts are of no use any more; a source that still sends gets its own back.
    for (const other of host.sources.values()) this.setUnits(this.source(other), []);
    this.sources[id] = { host, key, ticks: new IntervalSet(), batches: 0, shape: -1, units: [] };
    host.sources.set(key, id);
    this.sourceBytes += SOURCE_BYTES;
    return id;
  }

  /** Id of the shape of these units on the source's host; series that are new are made. */
  shapeFor(source: Source, units: readonly string[]): number {
    const { found } = this;
    this.found = null;
    if (found?.units === units && found.host === source.host) return found.shape;
    if (this.isOf(source, units)) return source.shape;
    const known = this.shapeOf(source.host, units);
    if (known !== undefined) return known;
    const series = Uint32Array.from(units, (unit) => source.host.series.get(unit) ?? this.addSeries(source.host, unit));
    const id = this.freeShapes.pop() ?? this.shapes.length;
    this.shapes[id] = { series, host: source.host, batches: 0 };
    this.shapeBytes += SHAPE_BYTES + series.length * SHAPE_SERIES_BYTES;
    const ofHost = this.shapesOfHost.get(source.host);
    if (ofHost === undefined) this.shapesOfHost.set(source.host, [id]);
    else ofHost.push(id);
    return id;
  }

  /** Id of the incarnation with these, of a series. @param pid NaN where not known, as `started` */
  incarnationFor(series: number, state: number, pid: number, started: number): number {
    const last = this.lastIncarnation[series] as number;
    const known = this.incarnations.find(last, state, pid, started);
    if (known !== NO_INCARNATION) return known;
    const id = this.incarnations.add(last, state, pid, started);
    this.lastIncarnation[series] = id;
    return id;
  }

  /** Frees the incarnations of which there are no rows from a position on. The last of every series is kept: the next row will have it. */
  sweepIncarnations(floor: number): void {
    const kept = new Set<number>();
    for (let id = 0; id < this.seriesHost.length; id++) {
      const last = this.lastIncarnation[id] as number;
      if (this.seriesHost[id] !== undefined && last !== NO_INCARNATION) kept.add(last);
    }
    this.incarnations.sweep(floor, kept);
  }

  /** A batch has entered the window. */
  addBatch(source: Source, shape: number, tick: number): void {
    const before = source.ticks.bytes;
    source.ticks.add(tick);
    this.sourceBytes += source.ticks.bytes - before;
    source.batches++;
    if (source.shape !== shape || source.units.length === 0) {
      source.shape = shape;
      this.setUnits(source, this.namesOf(shape));
    }
    (this.shapes[shape] as Shape).batches++;
  }

  /** A batch has left the window; its ids stay until they are released. */
  removeBatch(source: Source, shape: number, tick: number): void {
    const before = source.ticks.bytes;
    source.ticks.delete(tick);
    this.sourceBytes += source.ticks.bytes - before;
    source.batches--;
    (this.shapes[shape] as Shape).batches--;
  }

  /** Takes the name from a series: to be asked for by name, it is gone. */
  remove(series: number): void {
    const unit = this.unitOf(series);
    const host = this.hostOf(series);
    host.series.delete(unit);
    this.nameBytes -= unit.length;
    this.seriesUnit[series] = '';
    this.found = null;
    for (const id of host.sources.values()) if (this.source(id).units.includes(unit)) this.setUnits(this.source(id), []);
  }

  isRemoved(series: number): boolean {
    return this.seriesUnit[series] === '';
  }

  /** Frees those of the ids that nothing in the window uses any more. Call when the block that mentioned them is dropped. */
  release(sources: Iterable<number>, shapes: Iterable<number>): void {
    for (const id of shapes) {
      const series = this.shapes[id]?.series ?? [];
      this.releaseShape(id);
      for (const one of series) this.releaseSeries(one);
    }
    for (const id of sources) this.releaseSource(id);
  }

  private releaseShape(id: number): void {
    const shape = this.shapes[id];
    if (shape === undefined || shape.batches > 0) return;
    for (const sourceId of shape.host.sources.values()) {
      const source = this.sources[sourceId];
      if (source?.shape !== id) continue;
      source.shape = -1;
      this.setUnits(source, []);
    }
    this.shapeBytes -= SHAPE_BYTES + shape.series.length * SHAPE_SERIES_BYTES;
    this.shapes[id] = undefined;
    this.found = null;
    this.freeShapes.push(id);
    const ofHost = this.shapesOfHost.get(shape.host);
    ofHost?.splice(ofHost.indexOf(id), 1);
    if (ofHost?.length === 0) this.shapesOfHost.delete(shape.host);
  }

  private releaseSeries(id: number): void {
    const host = this.seriesHost[id];
    if (host === undefined || (this.rows[id] as number) > 0) return;
    const unit = this.unitOf(id);
    host.series.delete(unit);
    this.nameBytes -= unit.length;
    this.seriesHost[id] = undefined;
    this.seriesUnit[id] = '';
    this.seriesCount--;
    this.freeSeries.push(id);
    if (this.seriesCount === 0) this.clearSeries();
    this.releaseHost(host);
  }

  /** Nothing refers to any id any more: what one large batch has made the arrays grow to is given back. */
  private clearSeries(): void {
    this.freeSeries.length = 0;
    this.seriesHost = [];
    this.seriesUnit = [];
    this.rows = new Uint32Array(0);
    this.newestTs = new Float64Array(0);
    this.newestIncarnation = new Uint32Array(0);
    this.isStale = new Uint8Array(0);
    this.lastIncarnation = new Uint32Array(0);
    this.hashes = new Uint32Array(0);
    this.incarnations.clear();
  }

  private releaseSource(id: number): void {
    const source = this.sources[id];
    if (source === undefined || source.batches > 0) return;
    source.host.sources.delete(source.key);
    this.setUnits(source, []);
    this.sources[id] = undefined;
    this.sourceBytes -= SOURCE_BYTES;
    this.freeSources.push(id);
    this.releaseHost(source.host);
  }

  private releaseHost(host: Host): void {
    if (host.series.size === 0 && host.sources.size === 0) this.hosts.delete(host.name);
  }

  private addHost(name: string): Host {
    const host: Host = { name, series: new Map(), sources: new Map() };
    this.hosts.set(name, host);
    return host;
  }

  private addSeries(host: Host, unit: string): number {
    const id = this.freeSeries.pop() ?? this.seriesHost.length;
    if (id >= this.rows.length) this.growSeries(capacityWith(this.rows.length, id + 1, GROWTH));
    this.seriesHost[id] = host;
    this.seriesUnit[id] = unit;
    this.rows[id] = 0;
    this.newestTs[id] = Number.NEGATIVE_INFINITY;
    this.isStale[id] = 0;
    this.lastIncarnation[id] = NO_INCARNATION;
    this.hashes.fill(0, 2 * id, 2 * id + 2);
    host.series.set(unit, id);
    this.nameBytes += unit.length;
    this.seriesCount++;
    return id;
  }

  private growSeries(capacity: number): void {
    this.rows = grown(this.rows, capacity);
    this.newestTs = grown(this.newestTs, capacity);
    this.newestIncarnation = grown(this.newestIncarnation, capacity);
    this.isStale = grown(this.isStale, capacity);
    this.lastIncarnation = grown(this.lastIncarnation, capacity);
    this.hashes = grown(this.hashes, 2 * capacity);
  }

  private shapeOf(host: Host, units: readonly string[]): number | undefined {
    return this.shapesOfHost.get(host)?.find((id) => this.isShapeOf(id, units));
  }

  private isOf(source: Source, units: readonly string[]): boolean {
    return source.shape !== -1 && (source.units === units || this.isShapeOf(source.shape, units));
  }

  private isShapeOf(id: number, units: readonly string[]): boolean {
    const series = this.shape(id);
    if (series.length !== units.length) return false;
    for (let i = 0; i < units.length; i++) if (this.seriesUnit[series[i] as number] !== units[i]) return false;
    return true;
  }

  /** Names of its series: those of the batch that has just come with them. */
  private namesOf(shape: number): string[] {
    const series = this.shape(shape);
    const names = new Array<string>(series.length);
    for (let i = 0; i < series.length; i++) names[i] = this.unitOf(series[i] as number);
    return names;
  }

  private setUnits(source: Source, units: readonly string[]): void {
    this.sourceBytes += (units.length - source.units.length) * UNIT_BYTES;
    source.units = units;
  }
}

function sourceKey(boot: string, part: number | undefined): string {
  return part === undefined ? boot : `${boot}\0${part}`;
}

/** Eight digits. */
function hex(word: number): string {
  return word.toString(16).padStart(8, '0');
}

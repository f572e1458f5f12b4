// What systemg says of its services in `pid.xml` and `state.xml`. Both are rewritten in place, so a reader can find any
// beginning of them, and nothing: a document counts only when its root element is closed. One line or indented, the same.
//
// `pid.xml` says which process a service has, by its name; `state.xml` says whether it runs, by a key that is a hash of 16
// digits or `v<version>:<project>:<service>`. A hash leads to a service only through the process id that both files have.

export interface SystemgService {
  readonly service: string;
  /** Null: it belongs to none. */
  readonly project: string | null;
  readonly pid: number;
  /** Start of the process since boot, clock ticks, as systemg noted it; null where it did not. */
  readonly startTicks: number | null;
  /** Only in `state.xml`, which may call a service running long after its end: it counts only while the process is there. */
  readonly isHearsay: boolean;
}

/** Service to its process. */
export type PidFile = ReadonlyMap<string, { readonly pid: number; readonly startTicks: number | null }>;
/** Key to its state. */
export type StateFile = ReadonlyMap<string, { readonly status: string; readonly pid: number | null }>;

/** Null: empty or torn. */
export function parsePidFile(text: string): PidFile | null {
  if (!isWhole(text)) return null;
  const starts = new Map<string, number>();
  for (const block of blocksOf(text, 'service_starts')) {
    const started = Number(textOf(block, 'started') ?? Number.NaN);
    if (Number.isSafeInteger(started)) starts.set(textOf(block, 'name') ?? '', started);
  }
  const services = new Map<string, { pid: number; startTicks: number | null }>();
  for (const block of blocksOf(text, 'services')) {
    const name = textOf(block, 'name');
    const pid = pidOf(block);
    if (name !== null && pid !== null) services.set(name, { pid, startTicks: starts.get(name) ?? null });
  }
  return services;
}

/** Null: empty or torn. */
export function parseStateFile(text: string): StateFile | null {
  if (!isWhole(text)) return null;
  const states = new Map<string, { status: string; pid: number | null }>();
  for (const block of blocksOf(text, 'services')) {
    const key = textOf(block, 'name');
    const status = textOf(block, 'status');
    if (key !== null && status !== null) states.set(key, { status, pid: pidOf(block) });
  }
  return states;
}

/**
 * The services that run. Those that were skipped, stopped or have finished are none.
 * @param pids null: never read @param states null: never read
 * @param project of the directory that the files are in; null for the state directory itself
 */
export function runningServices(pids: PidFile | null, states: StateFile | null, project: string | null): SystemgService[] {
  const running: SystemgService[] = [];
  const known = new Set<string>();
  for (const [service, { pid, startTicks }] of pids ?? []) {
    const own = [...(states ?? [])].filter(([key, state]) => state.pid === pid || takeApart(key).service === service);
    for (const [key] of own) known.add(key);
    if (own.length === 0 || own.some(([, { status }]) => status === RUNNING)) {
      running.push({ service, project, pid, startTicks, isHearsay: false });
    }
  }
  for (const [key, { status, pid }] of states ?? []) {
    if (status !== RUNNING || pid === null || known.has(key)) continue;
    const parts = takeApart(key);
    running.push({ service: parts.service, project: project ?? parts.project, pid, startTicks: null, isHearsay: true });
  }
  return running;
}

const RUNNING = 'running';
/** What systemg writes in the place of a project for services that belong to none. */
export const NO_PROJECT: ReadonlySet<string> = new Set(['', 'none', '__loose__']);

function takeApart(key: string): { project: string | null; service: string } {
  const [, project, service] = /^v\d+:([^:]*):(.+)$/s.exec(key) ?? [];
  if (project === undefined || service === undefined) return { project: null, service: key };
  return { project: NO_PROJECT.has(project) ? null : project, service };
}

/** Begins with an element and ends with its end. */
function isWhole(text: string): boolean {
  const [, name, isEmpty] = /^\s*(?:<\?[^>]*\?>\s*)?<([A-Za-z_][\w.-]*)\s*(\/)?>/.exec(text) ?? [];
  if (name === undefined) return false;
  return isEmpty !== undefined || text.trimEnd().endsWith(`</${name}>`);
}

/** What is inside each element of this name, in order. */
function blocksOf(text: string, element: string): string[] {
  return [...text.matchAll(new RegExp(`<${element}>(.*?)</${element}>`, 'gs'))].map((found) => found[1] as string);
}

/** Text of the first element of this name; null where there is none. */
function textOf(block: string, element: string): string | null {
  const text = new RegExp(`<${element}>([^<]*)</${element}>`).exec(block)?.[1];
  return text === undefined ? null : unescapeXml(text.trim());
}

const PID_MAX = 2 ** 22;

function pidOf(block: string): number | null {
  const pid = Number(textOf(block, 'pid') ?? Number.NaN);
  return Number.isInteger(pid) && pid >= 1 && pid <= PID_MAX ? pid : null;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w+));/g, (whole, decimal?: string, hex?: string, entity?: string) => {
    if (entity !== undefined) return ENTITIES[entity] ?? whole;
    const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

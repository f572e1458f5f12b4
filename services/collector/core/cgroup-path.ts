// Which control group a process is in, from its /proc/<pid>/cgroup, and which of them a pattern, a systemd unit or a
// container means. One line for each hierarchy of version 1, `<number>:<controllers>:<path>`, and `0::<path>` for version 2.
// No file system of control groups is needed for it, so it works where only a procfs is mounted.

export interface CgroupPath {
  /** Of version 1, such as `cpu,cpuacct` or `name=systemd`; '' for version 2. */
  readonly controllers: string;
  readonly path: string;
}

/** @returns what the rule found in the cgroups of a process, as `{cgroup}` names it; null when it is in none of them */
export type CgroupMatcher = (cgroups: readonly CgroupPath[]) => string | null;

export function parseCgroups(text: string): CgroupPath[] {
  return text.split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.*?)(?: \(deleted\))?$/.exec(line) ?? [];
    return controllers === undefined || path === undefined ? [] : [{ controllers, path }];
  });
}

/** The one that says most: of version 2, else systemd's, else any that is not the root. */
export function ownCgroup(cgroups: readonly CgroupPath[]): string {
  const below = cgroups.filter(({ path }) => path !== '/');
  const best = below.find(({ controllers }) => controllers === '') ?? below.find(({ controllers }) => controllers === 'name=systemd');
  return (best ?? below[0])?.path ?? '/';
}

const MOUNT = '/sys/fs/cgroup';

/**
 * A path as the kernel gives it (`/system.slice/db.service`) or as it is mounted (`/sys/fs/cgroup/…`, with the hierarchy of
 * version 1 where there are several), with `*` and `?` within one part of it. Means the group and all below it.
 */
export function cgroupMatcher(pattern: string): CgroupMatcher {
  const isMounted = pattern === MOUNT || pattern.startsWith(`${MOUNT}/`);
  const parts = partsOf(isMounted ? pattern.slice(MOUNT.length) : pattern).map(globExpression);
  return firstOf((cgroup) => {
    for (const candidate of isMounted ? mountedPaths(cgroup) : [cgroup.path]) {
      const found = partsOf(candidate);
      if (found.length >= parts.length && parts.every((part, i) => part.test(found[i] as string))) {
        return `/${found.slice(0, parts.length).join('/')}`;
      }
    }
    return null;
  });
}

/** Kinds of units that have processes. */
const UNIT_SUFFIX = /\.(service|scope|slice|socket|mount|swap)$/;

/** The unit's group and all below it, wherever systemd has put it. A name without a suffix is a service. */
export function systemdMatcher(pattern: string): CgroupMatcher {
  const expression = globExpression(UNIT_SUFFIX.test(pattern) ? pattern : `${pattern}.service`);
  return firstOf(({ path }) => partsOf(path).find((part) => expression.test(part)) ?? null);
}

/** Shorter ones are names: a container may be called `cafe`. */
const ID_PREFIX = /^[0-9a-f]{12,64}$/;

/**
 * A container by its id, whole or the first 12 digits and more, in the forms that Docker, containerd and Kubernetes write:
 * `/docker/<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`, `<slice>:cri-containerd:<id>`; and `/<namespace>/<id>`, by which
 * containerd also has ids that are words.
 */
export function containerMatcher(id: string): CgroupMatcher {
  return firstOf(({ path }) => {
    const parts = partsOf(path);
    const found = parts.map((part) => part.replace(/\.scope$/, '').replace(/^.*[-:](?=[0-9a-f]{64}$)/, ''));
    if (ID_PREFIX.test(id)) return found.find((one) => one.length === 64 && one.startsWith(id)) ?? null;
    return parts.length >= 2 && found[1] === id ? id : null;
  });
}

function firstOf(matches: (cgroup: CgroupPath) => string | null): CgroupMatcher {
  return (cgroups) => {
    for (const cgroup of cgroups) {
      const found = matches(cgroup);
      if (found !== null) return found;
    }
    return null;
  };
}

/** Below the mount point: as it is where version 2 is all there is, else below its hierarchy. */
function mountedPaths({ controllers, path }: CgroupPath): string[] {
  if (controllers === '') return [path, `/unified${path}`];
  return [controllers, ...controllers.split(',')].map((name) => `/${name.replace(/^name=/, '')}${path}`);
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '');
}

function globExpression(pattern: string): RegExp {
  const source = pattern
    .replace(/[\\^$+.()|[\]{}]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's');
}

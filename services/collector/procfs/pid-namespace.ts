// Whose processes a procfs shows. Mounted in a container, it may be the host's or the container's own, and both look alike.

import { readlinkSync } from 'node:fs';
import { SetupError } from '#shared/runtime/service';
import { ProcFiles } from './proc-files.ts';

export const OWN_PROCFS = '/proc';
/** Number that the kernel gives the first pid namespace, the host's (PROC_PID_INIT_INO). */
const HOST_NAMESPACE = 'pid:[4026531836]';

/** Pid namespaces from that of the procfs down to ours: 1 when it is the same; null when the procfs does not show us, or does not say. */
export function namespaceDepth(files: ProcFiles): number | null {
  const pids = /^NSpid:\s+(.+)$/m.exec(files.readText('self/status') ?? '')?.[1];
  return pids === undefined ? null : pids.trim().split(/\s+/).length;
}

/** Whether this process is in a pid namespace of its own, a container's, and so does not see the host through its own /proc. */
export function isInContainer(): boolean {
  return readlinkSync(`${OWN_PROCFS}/self/ns/pid`) !== HOST_NAMESPACE;
}

/** @throws {SetupError} if the configured procfs is none, or does not show the host */
export function checkProcfs(root: string): void {
  const files = new ProcFiles(root);
  if (!/^btime \d+$/m.test(files.readText('stat') ?? '')) {
    throw new SetupError(`procfs: ${root} is not a procfs, it has no stat with btime; mount the host's /proc there, read-only`);
  }
  if (root === OWN_PROCFS) return;
  const remedy = "mount the host's /proc there (docker run -v /proc:/host/proc:ro), or leave procfs out to see this container only";
  if (files.readText('self/status') === null) {
    throw new SetupError(`procfs: ${root} belongs to a pid namespace that this process is not in, so it does not show the host; ${remedy}`);
  }
  if (namespaceDepth(files) === 1 && isInContainer()) {
    throw new SetupError(`procfs: ${root} shows the pid namespace of this container, which hides the host's processes; ${remedy}`);
  }
}

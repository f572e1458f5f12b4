// How Node is started for a service.

/**
 * The collection of garbage stays in the thread that makes it. Helpers start and stop for heaps as small as ours, and take more
 * CPU than they save: a sixth of the whole pipeline's under load, a fifth of the collector's.
 */
export const SERVICE_NODE_FLAGS: readonly string[] = ['--single-threaded-gc'];

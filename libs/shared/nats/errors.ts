// What went wrong between us and JetStream, as the few things a caller can act on.

import { NatsError } from 'nats';

/** JetStream's own error numbers. */
export const WRONG_LAST_SEQUENCE = 10071;
const STREAM_FULL = new Set([10077, 10023, 10047]); // maximum bytes exceeded; insufficient resources; insufficient storage
const STREAM_NOT_FOUND = 10059;

export function apiErrorCode(error: unknown): number | null {
  return error instanceof NatsError ? (error.api_error?.err_code ?? null) : null;
}

/** The stream is at its limit and discards new messages. */
export function isStreamFull(error: unknown): boolean {
  const code = apiErrorCode(error);
  return code !== null && STREAM_FULL.has(code);
}

export function isWrongLastSequence(error: unknown): boolean {
  return apiErrorCode(error) === WRONG_LAST_SEQUENCE;
}

export function isStreamNotFound(error: unknown): boolean {
  return apiErrorCode(error) === STREAM_NOT_FOUND;
}

export function isNoSuchMessage(error: unknown): boolean {
  return apiErrorCode(error) === 10037;
}

/** A deletion that found nothing to delete. */
export function isNotDeleted(error: unknown): boolean {
  return apiErrorCode(error) === 10057;
}

export function isPermissionViolation(error: unknown): boolean {
  return error instanceof NatsError && error.code === 'PERMISSIONS_VIOLATION';
}

/** Nobody answered in time, nobody is there, or the connection is down: it may or may not have happened. */
export function isUnanswered(error: unknown): boolean {
  return (
    error instanceof NatsError &&
    ['TIMEOUT', '503', 'DISCONNECT', 'CONNECTION_CLOSED', 'CONNECTION_DRAINING', 'CANCELLED'].includes(error.code)
  );
}

export function messageOf(error: unknown): string {
  if (error instanceof NatsError && error.code === '503' && error.api_error === undefined)
    return 'nobody answers; is JetStream enabled on this server (nats-server -js)?';
  if (error instanceof NatsError && error.code === 'TIMEOUT') return 'no answer in time';
  return error instanceof Error ? error.message : String(error);
}

// Refused messages, for people who want to see them: published to one subject with the reason, kept nowhere.

import { headers } from 'nats';
import type { RejectReason } from '#shared/contract/batch';
import type { NatsLink } from './connection.ts';

/** Leaves room for headers below the server's usual limit of 1 MiB. */
const BODY_BYTES_MAX = 512 * 1024;
const HEAD_BYTES = 8 * 1024;

export function publishRejected(link: NatsLink, reason: RejectReason, subject: string, data: Uint8Array): void {
  if (!link.isConnected()) return; // nothing would be lost that is not in the log still
  const head = headers();
  head.set('Spillway-Reason', reason);
  head.set('Spillway-Subject', subject.replace(/[^\x20-\x7e]/g, '?').slice(0, 1000));
  const bodyBytes = Math.min(BODY_BYTES_MAX, (link.nc.info?.max_payload ?? Number.POSITIVE_INFINITY) - HEAD_BYTES);
  link.nc.publish(link.subjects.rejected, data.subarray(0, Math.max(0, bodyBytes)), { headers: head });
}

// The few things of the client library that adapters need by name, so that only this folder imports it.

export { headers, type MsgHdrs, type PubAck } from 'nats';

// Something to measure, with a known load: uses a share of one core and holds some memory until it is told to stop.
//   node sample-workload.mjs <share of a core, 0 to 1> <MiB>

const [share, heldMiB] = process.argv.slice(2).map(Number);
const TURN_MS = 100;

const held = Buffer.alloc(heldMiB * 1024 * 1024, 1);
const startedMs = performance.now();

// The share is of all the time since the start: a turn that came late is made up for.
setInterval(() => {
  while (process.cpuUsage().user + process.cpuUsage().system < share * (performance.now() - startedMs) * 1000) Math.random();
}, TURN_MS);

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
console.log(`using ${share} of a core and ${held.length / 1024 / 1024} MiB`);

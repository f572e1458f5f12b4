// Processes to be watched: forked by one small program, so that thousands of them share their memory, and ended with it.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { eventually } from '../test/support/eventually.ts';
import { endWithUs } from './processes.ts';

/** `busy`: each works for a moment every second, so that its numbers change in every tick. */
export type Mood = 'idle' | 'busy';

// Perl is in every Debian; a busy child begins at its own moment of the second. Children end when their parent has gone.
const PROGRAM = `
my ($count, $busy) = @ARGV;
my $parent = $$;
for my $i (1 .. $count) {
  next if fork;
  $0 = "bench-process $i";
  select undef, undef, undef, rand 1;
  while (getppid == $parent) {
    if ($busy) { my $x = 0; $x++ while $x < 2000; }
    select undef, undef, undef, $busy ? 1 : 60;
  }
  exit;
}
sleep 1_000_000;
`;

const START_MS_MAX = 120_000;

export interface Population {
  readonly pids: readonly number[];
  end(): Promise<void>;
}

export async function startPopulation(count: number, mood: Mood): Promise<Population> {
  // A process group of its own, so that the children can be ended with it.
  const parent = spawn('perl', ['-e', PROGRAM, `${count}`, mood === 'busy' ? '1' : '0'], { stdio: 'ignore', detached: true });
  const { pid } = parent;
  if (pid === undefined) throw new Error('perl could not be started: the processes to be watched are its children');
  const endAll = (): void => void process.kill(-pid, 'SIGKILL');
  const forget = endWithUs(endAll);
  const ended = new Promise((resolve) => parent.once('exit', resolve));
  const end = async (): Promise<void> => {
    forget();
    endAll();
    await ended;
  };
  try {
    const pids = await eventually(() => childrenOf(pid, count), { withinMs: START_MS_MAX, everyMs: 100 });
    return { pids, end };
  } catch (error) {
    await end();
    throw error;
  }
}

function childrenOf(pid: number, count: number): number[] {
  const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number);
  if (pids.length < count) throw new Error(`${pids.length} of ${count} processes have been started; see ulimit -u`);
  return pids;
}

// A directory that looks like a procfs, for what a real one does not do on demand: reused ids, processes of other users,
// a cursor that moves as the test says.

import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface FakeProcess {
  readonly ppid?: number;
  readonly startTicks?: number;
  readonly command?: string[];
  readonly comm?: string;
  readonly state?: string;
  readonly threads?: number;
  readonly uid?: number;
  /** Content of its cgroup file. */
  readonly cgroup?: string;
  /** Time it used itself, in user mode, and of children that were waited for. */
  readonly cpuTicks?: number;
  readonly reapedTicks?: number;
  /** Absent: there is no io file to read. */
  readonly readBytes?: number;
  /** Content of its schedstat file; absent: there is none, as with a kernel that has none. */
  readonly ran?: string;
  /** As statm and stat have them. */
  readonly residentPages?: number;
}

export class FakeProcfs {
  readonly root = mkdtempSync(join(tmpdir(), 'spillway-proc-'));
  #cursor = 0;

  constructor() {
    mkdirSync(join(this.root, 'sys/kernel'), { recursive: true });
    symlinkSync(String(process.pid), join(this.root, 'self'));
    this.setCursor(100);
    this.setUptime(1_000);
    this.put(process.pid, { ppid: 0, startTicks: 2, command: ['test'], readBytes: 0, ran: '9000 1 1' });
    writeFileSync(join(this.root, 'stat'), 'cpu  1 2 3\nbtime 1763670000\nprocesses 5\n');
  }

  /** As whom the procfs sees us: another id where it shows another pid namespace. */
  setSelf(pid: number): void {
    rmSync(join(this.root, 'self'));
    symlinkSync(String(pid), join(this.root, 'self'));
  }
  setCursor(pid: number): void {
    this.#cursor = pid;
    writeFileSync(join(this.root, 'sys/kernel/ns_last_pid'), `${pid}\n`);
  }
  setUptime(seconds: number): void {
    writeFileSync(join(this.root, 'uptime'), `${seconds.toFixed(2)} 1.00\n`);
  }
  /** A new process, or what one has become. */
  put(
    pid: number,
    {
      ppid = 1,
      startTicks = 10,
      command = ['prog'],
      comm = 'prog',
      state = 'S',
      threads = 1,
      uid = 0,
      cgroup = '0::/\n',
      cpuTicks = 1,
      reapedTicks = 3,
      readBytes,
      ran,
      residentPages = 25,
    }: FakeProcess,
  ): void {
    const directory = join(this.root, String(pid));
    mkdirSync(directory, { recursive: true });
    const stat = `${pid} (${comm}) ${state} ${ppid} 0 0 0 -1 0 0 0 5 6 ${cpuTicks} 2 ${reapedTicks} 4 20 0 ${threads} 0 ${startTicks} 4096 ${residentPages} 0`;
    writeFileSync(join(directory, 'stat'), `${stat}\n`);
    writeFileSync(join(directory, 'cmdline'), command.map((argument) => `${argument}\0`).join(''));
    writeFileSync(join(directory, 'comm'), `${comm}\n`);
    writeFileSync(join(directory, 'cgroup'), cgroup);
    writeFileSync(join(directory, 'status'), `Name:\t${comm}\nUid:\t999\t${uid}\t999\t999\n`);
    if (ran !== undefined) writeFileSync(join(directory, 'schedstat'), `${ran}\n`);
    writeFileSync(join(directory, 'statm'), `1024 ${residentPages} 20 1 0 30 0\n`);
    if (readBytes !== undefined) writeFileSync(join(directory, 'io'), `rchar: 1\nread_bytes: ${readBytes}\nwrite_bytes: 0\n`);
  }
  /** Forks: moves the cursor as the kernel does. */
  spawn(pid: number, fields: FakeProcess): void {
    this.put(pid, fields);
    this.setCursor(Math.max(pid, this.#cursor));
  }
  /** Who has a file of it open reads nothing any more. */
  end(pid: number): void {
    for (const file of ['stat', 'io', 'schedstat', 'statm']) {
      const path = join(this.root, String(pid), file);
      if (existsSync(path)) truncateSync(path);
    }
    rmSync(join(this.root, String(pid)), { recursive: true });
  }
  remove(): void {
    rmSync(this.root, { recursive: true });
  }
}

// Last line of a check run: `N passed, N failed`, and a line before it where something was skipped. Exit code 1 when something failed.
// Arguments: vitest's JSON report and the exit code of each run of tests; after `--` the exit codes of the linter and the type checker.

import { readFileSync } from 'node:fs';

const args = process.argv.slice(2);
const end = args.indexOf('--');
const counts = { passed: 0, failed: 0, skipped: 0 };
for (let i = 0; i < end; i += 2) countTests(args[i], args[i + 1]);
for (const code of args.slice(end + 1)) counts[code === '0' ? 'passed' : 'failed']++;

if (counts.skipped > 0) console.log(`${counts.skipped} skipped`);
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exit(counts.failed === 0 ? 0 : 1);

function countTests(report, exitCode) {
  const failedBefore = counts.failed;
  for (const file of readReport(report)) {
    // A file that cannot be loaded has no tests to count, and has failed.
    if (file.status === 'failed' && file.assertionResults.length === 0) counts.failed++;
    for (const { status } of file.assertionResults) counts[status === 'passed' || status === 'failed' ? status : 'skipped']++;
  }
  if (exitCode !== '0' && counts.failed === failedBefore) counts.failed++; // an error outside of any test, or no report at all
}

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).testResults;
  } catch {
    return [];
  }
}

// Last line of a check run: `N passed, N failed`, and `, N skipped` where something was. Exit code 1 when something failed.
// Arguments: vitest's JSON report, and the exit codes of the tests, the linter and the type checker.

import { readFileSync } from 'node:fs';

const [report, testsCode, ...checkCodes] = process.argv.slice(2);
const counts = countTests(report);
if (testsCode !== '0' && counts.failed === 0) counts.failed = 1; // an error outside of any test, or no report at all
for (const code of checkCodes) counts[code === '0' ? 'passed' : 'failed']++;

const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
process.exit(counts.failed === 0 ? 0 : 1);

function countTests(path) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of readReport(path)) {
    // A file that cannot be loaded has no tests to count, and has failed.
    if (file.status === 'failed' && file.assertionResults.length === 0) counts.failed++;
    for (const { status } of file.assertionResults) counts[status === 'passed' || status === 'failed' ? status : 'skipped']++;
  }
  return counts;
}

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).testResults;
  } catch {
    return [];
  }
}

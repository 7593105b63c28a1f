'use strict';
// Test Anything Protocol, version 13: one line for each check.

const checks = [];

// check registers a function by what it shows.
function check(name, f) {
  checks.push([name, f]);
}

// run runs all checks in order.
async function run(...args) {
  let failed = 0;
  console.log('TAP version 13');
  for (const [i, [name, f]] of checks.entries()) {
    try {
      await f(...args);
      console.log(`ok ${i + 1} - ${name}`);
    } catch (e) {
      failed++;
      console.log(`not ok ${i + 1} - ${name}\n    ${String(e.stack).replaceAll('\n', '\n    ')}`);
    }
  }
  console.log(`1..${checks.length}`);
  process.exit(failed ? 1 : 0);
}

module.exports = { check, run };

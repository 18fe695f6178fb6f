/**
 * `npm test`: makes sure of a browser, then runs every test once. Arguments go to vitest:
 * `npm test -- test/unit` runs a folder. The last line is `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { ensureChromium } from './support/chromium.ts'

const RESULTS = '.cache/test-results.json'

let chromium: string
try {
  chromium = ensureChromium()
} catch (error) {
  console.error(`crowdgrad: ${(error as Error).message}`)
  console.log('0 passed, 1 failed')
  process.exit(1)
}
mkdirSync('.cache', { recursive: true })
rmSync(RESULTS, { force: true })
const { status } = spawnSync(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--config',
    'test/vitest.config.ts',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${RESULTS}`,
    ...process.argv.slice(2),
  ],
  { stdio: 'inherit', env: { ...process.env, CHROMIUM: chromium } },
)
let passed = 0
let failed = 1
try {
  const results = JSON.parse(readFileSync(RESULTS, 'utf8')) as {
    numPassedTests: number
    numFailedTests: number
    success: boolean
  }
  passed = results.numPassedTests
  // A file that could not even be loaded fails without a failed test.
  failed = results.numFailedTests + (results.success || results.numFailedTests > 0 ? 0 : 1)
} catch {
  console.error('crowdgrad: vitest left no results')
}
console.log(`${passed} passed, ${failed} failed`)
process.exit(status === 0 && failed === 0 ? 0 : 1)

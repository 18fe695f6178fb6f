/** `npm run bench -- <name>`: runs one benchmark of this folder; without a name it lists them. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const BENCHES: Record<string, string> = {
  kernels: 'update rules and codecs against plain JavaScript and memcpy',
  compute: 'one training step on each backend against stock tfjs',
  grid: 'the whole grid against a plain loop of the same step',
  'fan-in': 'many volunteers pushing into one coordinator',
  journal: 'appends to the SQLite journal',
  step: 'what a synchronous step costs beside its compute',
  'slow-line': 'leases that overlap, and those that do not, on a line of 20 Mbit/s',
}

const [name = '', ...rest] = process.argv.slice(2)
const file = join(import.meta.dirname, `${name}.ts`)
if (!(name in BENCHES) || !existsSync(file)) {
  console.error(
    `expected the name of a benchmark:\n${Object.entries(BENCHES)
      .map(([n, what]) => `  ${n.padEnd(9)} ${what}`)
      .join('\n')}`,
  )
  process.exit(2)
}
const { status } = spawnSync(process.execPath, ['--import', 'tsx', file, ...rest], { stdio: 'inherit' })
process.exit(status ?? 1)

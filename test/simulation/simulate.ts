/**
 * Runs the simulator over many seeds: `npm run simulate -- --seeds 200 [--from 1]`, or one with its whole story:
 * `npm run simulate -- --seed 17 --verbose`. Ends with 1 and what there is to know at the first seed that fails.
 */
import { cac } from 'cac'
import type { Figures } from './shell.ts'
import { type Failure, simulate } from './simulation.ts'

interface Options {
  seeds: number
  from: number
  seed?: number
  verbose?: boolean
  keepGoing?: boolean
}

const cli = cac('npm run simulate --')
cli
  .command('', 'Invented stories of a coordinator and its crowd, each checked at every step')
  .option('--seeds <n>', 'So many stories', { default: 200 })
  .option('--from <seed>', 'The first of them', { default: 1 })
  .option('--seed <seed>', 'This one only')
  .option('--verbose', 'Tell what happens')
  .option('--keep-going', 'Go on after one that fails')
  .action(() => {})
cli.help()
const options = optionsGiven()
const from = options.seed ?? options.from
const count = options.seed === undefined ? options.seeds : 1
const total: Figures = {
  steps: 0,
  crashes: 0,
  accepted: 0,
  evaluated: 0,
  refused: {},
  expired: 0,
  givenBack: 0,
  diskFull: 0,
}
const failures: Failure[] = []
let virtualMs = 0
let slowest = { seed: from, ms: 0 }
const begun = performance.now()

for (let seed = from; seed < from + count; seed++) {
  const at = performance.now()
  const outcome = simulate(seed, options.verbose ? (line) => console.log(line) : undefined)
  const ms = performance.now() - at
  if (ms > slowest.ms) slowest = { seed, ms }
  add(outcome.figures)
  virtualMs += outcome.virtualMs
  if (outcome.failure !== null) {
    tell(outcome.failure)
    failures.push(outcome.failure)
    if (!options.keepGoing) break
  }
  if ((seed - from + 1) % 20 === 0) {
    console.log(
      `${seed - from + 1} of ${count} seeds, ${total.steps} steps, ${((performance.now() - begun) / 1000).toFixed(1)} s`,
    )
  }
}

const seconds = (performance.now() - begun) / 1000
const { refused, ...counts } = total
const refusedInAll = Object.values(refused).reduce((sum, n) => sum + n, 0)
console.log('')
const rows: [string, string | number][] = [
  ...Object.entries(counts),
  ['refused', refusedInAll],
  ...Object.entries(refused)
    .sort(([, a], [, b]) => b - a)
    .map(([code, n]): [string, number] => [`  ${code}`, n]),
  ['virtual hours', (virtualMs / 3_600_000).toFixed(1)],
  ['seconds', seconds.toFixed(1)],
  ['slowest seed', `${slowest.seed} (${slowest.ms.toFixed(0)} ms)`],
  ['failed', failures.length],
]
for (const [name, value] of rows) console.log(`${name.padEnd(24)} ${String(value).padStart(12)}`)
const summary = {
  seeds: count,
  ...counts,
  refused: refusedInAll,
  virtualHours: virtualMs / 3_600_000,
  seconds,
  failed: failures.map(({ seed }) => seed),
}
console.log(JSON.stringify({ simulate: summary }))
process.exitCode = failures.length === 0 ? 0 : 1

function optionsGiven(): Options {
  try {
    const given = cli.parse(process.argv, { run: false }).options as Options & { help?: boolean }
    if (given.help) process.exit(0)
    if (cli.args.length > 0) throw new Error(`expected options only, got ${cli.args.join(' ')}; --help tells more`)
    cli.matchedCommand?.checkUnknownOptions()
    for (const name of ['seeds', 'from', 'seed'] as const) {
      const value = given[name]
      if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1))
        throw new Error(`--${name}: expected a whole number from 1 on, got ${value}`)
    }
    return given
  } catch (error) {
    console.error((error as Error).message)
    process.exit(2)
  }
}

function add(figures: Figures): void {
  for (const key of Object.keys(figures) as (keyof Figures)[]) {
    const value = figures[key]
    if (typeof value === 'number') (total[key] as number) += value
  }
  for (const [code, n] of Object.entries(figures.refused)) total.refused[code] = (total.refused[code] ?? 0) + n
}

function tell({ seed, step, rule, message, events }: Failure): void {
  console.log(`\nseed ${seed} fails at step ${step} [${rule}]\n  ${message}\nbefore that:`)
  for (const event of events) console.log(`  ${event}`)
  console.log(`again: npm run simulate -- --seed ${seed} --verbose\n`)
}

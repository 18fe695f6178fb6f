/**
 * `npm run reproduce -- <row>`: measures a reference figure anew: trains what the row says for each seed, reads the
 * figure at the last iteration, and writes it down beside the reference (results.ts). Exits 1 where the row misses
 * what it is to reach. Ctrl-C leaves folders that the same command goes on from; what is finished is not run again.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { cac } from 'cac'
import { table } from '../report.ts'
import { Interrupted } from './interrupted.ts'
import { judge, missed } from './judge.ts'
import { placesOf } from './places.ts'
import { asJson, digits, writeResult, writtenDown } from './results.ts'
import type { Outcome, Row, Settings } from './row.ts'
import { inTabs, ROWS } from './rows.ts'
import { type Doing, outcomeOf } from './trials.ts'

interface Options {
  seeds: number
  volunteers?: number
  tabs?: number
  data?: string
  fresh?: boolean
  add?: boolean
  choose?: boolean
  quick?: boolean
}

const cli = cac('npm run reproduce --')
cli
  .command('<row>', `Reproduce a row: ${ROWS.map(({ name }) => name).join(', ')}`)
  .option('--seeds <n>', 'Seeds 1 to n', { default: 3 })
  .option('--volunteers <n>', 'Local volunteers, where the row does not measure crowds')
  .option('--tabs <n>', 'So many browser tabs in their place')
  .option('--data <folder>', 'Where the runs live; what is there already is not run again')
  .option('--fresh', 'Forget what was run before')
  .option('--add', 'Of these seeds, run those that are not yet written down with the same settings')
  .option('--choose', 'Instead, try a grid of settings on the last 10,000 training examples')
  .option('--quick', 'A smoke test: a few hundred examples, nothing judged, results in the data folder')
  .action((name: string, options: Options) => reproduce(name, options))
cli.help()
cli.parse(process.argv, { run: false })
if (cli.matchedCommand === undefined && !cli.options.help) {
  cli.outputHelp()
  process.exit(2)
}
const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // Asked twice, it does not wait: the journal is safe in any case.
    if (interrupt.signal.aborted) process.exit(130)
    interrupt.abort()
  })
}
try {
  process.exit((await cli.runMatchedCommand()) ?? 0)
} catch (error) {
  if (error instanceof Interrupted) {
    console.error('Interrupted. The same command, without --fresh, goes on.')
    process.exit(130)
  }
  console.error(`crowdgrad: ${(error as Error).message}`)
  process.exit(2)
}

async function reproduce(name: string, options: Options): Promise<number> {
  const found = ROWS.find((other) => other.name === name)
  if (found === undefined) {
    throw new Error(`there is no row ${name}: expected one of ${ROWS.map((other) => other.name).join(', ')}`)
  }
  const { tabs, volunteers = tabs ?? null, seeds, quick = false, fresh = false, add = false } = options
  if (tabs !== undefined && options.volunteers !== undefined)
    throw new Error('expected --tabs or --volunteers, got both')
  const row = tabs === undefined ? found : inTabs(found)
  for (const [option, value] of Object.entries({ seeds, tabs: tabs ?? 1, volunteers: volunteers ?? 1 })) {
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${option}: expected a whole number from 1 on, got ${value}`)
  }
  const settings: Settings = { seeds: Array.from({ length: seeds }, (_, i) => i + 1), volunteers, quick }
  const doing: Doing = {
    places: placesOf(resolve(options.data ?? (quick ? 'data/reproduce-quick' : 'data/reproduce')), quick),
    fresh,
    signal: interrupt.signal,
    say: (words) => console.error(`${row.name} ${words}`),
  }
  // Tabs run what is built: what is measured is to be this code. A smoke test takes what there is.
  if (tabs !== undefined && !quick) execFileSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' })
  if (options.choose) return choose(row, settings, doing)
  const crowd = volunteers === null ? '' : ` --${tabs === undefined ? 'volunteers' : 'tabs'} ${volunteers}`
  return measure(row, settings, { add, command: `reproduce -- ${name} --seeds ${seeds}${crowd}` }, doing)
}

async function measure(
  row: Row,
  settings: Settings,
  { add, command }: { add: boolean; command: string },
  doing: Doing,
): Promise<number> {
  const outcomes = new Map<string, Outcome>()
  const trials = row.trials(settings)
  const before = new Map(add ? trials.map((trial) => [trial.name, writtenDown(row, trial, doing.places)]) : [])
  for (const trial of trials) {
    const needed = row.together ? trials.filter(({ seed }) => seed === trial.seed) : [trial]
    const known = needed.every(({ name }) => before.get(name)) ? before.get(trial.name)! : null
    if (known !== null) doing.say(`${trial.name}: written down before, at commit ${known.commit}`)
    outcomes.set(trial.name, known ?? (await outcomeOf(row, trial, trials, doing)))
  }
  const { claims, remarks } = writeResult(row, outcomes, command, doing.places)
  const lines = claims.map((claim) => {
    const { mean, min, max, reached, aimed } = judge(claim)
    const { figure, unit, reference } = claim
    const said = (met: boolean | null) => (met === null ? '' : met ? 'met' : 'not met')
    const measured = `${digits(mean)}${unit} (${digits(min)} to ${digits(max)})`
    return { figure, reference: `${reference ?? ''}`, measured, reach: said(reached), aim: said(aimed) }
  })
  console.log(`${row.title}\n\n${table(lines)}\n${remarks.map((remark) => `\n${remark}`).join('')}`)
  console.log(`\nWritten to ${join(doing.places.results, `${row.name}.json`)} and ${doing.places.page}`)
  if (settings.quick) return 0
  const short = missed(claims)
  for (const { figure } of short) console.log(`${row.name} misses its reach: ${figure}`)
  return short.length === 0 ? 0 : 1
}

async function choose(row: Row, settings: Settings, doing: Doing): Promise<number> {
  const choices = row.choices?.(settings)
  if (choices === undefined) throw new Error(`row ${row.name} has nothing to choose`)
  const { trials, decides } = choices
  const outcomes: Outcome[] = []
  for (const trial of trials) outcomes.push(await outcomeOf(row, trial, trials, doing))
  // Settings are chosen for each crowd.
  const best = outcomes.toSorted((a, b) => a.volunteers - b.volunteers || a.figures[decides] - b.figures[decides])
  const file = join(doing.places.results, 'choices', `${row.name}.json`)
  mkdirSync(dirname(file), { recursive: true })
  const kept = best.map(({ trial, seed, spec, figures, seconds, commit, date }) => {
    return { trial, seed, figures, seconds, commit, date, spec }
  })
  writeFileSync(file, asJson({ row: row.name, decides, outcomes: kept }))
  console.log(
    `Held-out ${decides}, best first for each crowd\n\n${table(best.map(({ trial, figures }) => ({ trial, ...figures })))}`,
  )
  console.log(`\nWritten to ${file}`)
  return 0
}

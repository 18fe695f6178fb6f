/**
 * `npm run reproduce`: a row small enough for a smoke test, through the real command line. What is finished is not run
 * again, Ctrl-C leaves what the same command goes on from, and what comes out is judged and written down.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decode } from 'fast-png'
import { afterAll, afterEach, expect, test } from 'vitest'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { svg } from '../bench/reproduce/chart.ts'
import { judge, missed } from '../bench/reproduce/judge.ts'
import type { Result } from '../bench/reproduce/results.ts'
import { asJson, digits, section } from '../bench/reproduce/results.ts'
import { type Claim, meanOf, type Trial } from '../bench/reproduce/row.ts'
import { fitted } from '../bench/reproduce/rows/speed-up.ts'
import { inTabs, placeOf, ROWS } from '../bench/reproduce/rows.ts'
import { newFolder, removeFolders, until } from '../support/coordinator.ts'
import { type Program, startProgram } from '../support/processes.ts'

const programs: Program[] = []
afterAll(removeFolders)
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.end()))
})

const ONE = { seeds: [1], volunteers: null, quick: false }

function reproduce(...options: string[]): Program {
  const program = startProgram('test/bench/reproduce/reproduce.ts', options)
  programs.push(program)
  return program
}

test('a trial that another process is at is not forgotten', async () => {
  const data = newFolder()
  const folder = join(data, 'lenet-seed-1')
  mkdirSync(folder)
  const journal = openSqliteJournal(join(folder, 'journal.sqlite'))
  const other = reproduce('lenet', '--quick', '--seeds', '1', '--volunteers', '1', '--data', data, '--fresh')
  expect([await other.exit, other.errors()]).toEqual([2, expect.stringContaining('in use by another process')])
  expect(journal.append([])).toBe(1)
  expect(existsSync(join(folder, 'journal.sqlite'))).toBe(true)
  journal.close()
})

test('a row is measured, written down, left at Ctrl-C, gone on with, and not run twice', async () => {
  const data = newFolder()
  const command = ['lenet', '--quick', '--seeds', '1', '--volunteers', '1', '--data', data]
  const journal = join(data, 'lenet-seed-1', 'journal.sqlite')
  const first = reproduce(...command)
  await until(
    'some updates are in the journal',
    () => (statSync(journal, { throwIfNoEntry: false })?.size ?? 0) > 500_000,
  )
  first.child.kill('SIGINT')
  expect(await first.exit).toBe(130)
  expect(first.errors()).toContain('Interrupted. The same command, without --fresh, goes on.')
  expect(existsSync(join(data, 'results'))).toBe(false)

  const second = reproduce(...command)
  expect([await second.exit, second.errors()]).toEqual([0, expect.stringContaining('seed-1: goes on')])
  const result = JSON.parse(readFileSync(join(data, 'results', 'lenet.json'), 'utf8')) as Result
  // 600 digits in batches of 128, twice.
  expect(result.outcomes).toMatchObject([{ examples: 1200, updates: 10, volunteers: 1, bytesDown: null }])
  expect(result.outcomes[0].spec).toMatchObject({ seed: 1, evaluateEveryEpochs: 0 })
  expect(result.claims[0].values[0]).toBeGreaterThan(0)
  expect(readFileSync(join(data, 'plots', 'lenet.svg'), 'utf8')).toContain('</svg>')
  expect(readFileSync(join(data, 'RESULTS.md'), 'utf8')).toMatch(/\| \[lenet\]\(plots\/lenet\.svg\) \| test error/)

  const third = reproduce(...command)
  expect([await third.exit, third.errors()]).toEqual([0, expect.stringContaining('seed-1: finished before')])

  // With the runs gone, what is written down is added to, also where it knows nothing of a setting of today.
  const file = join(data, 'results', 'lenet.json')
  const { checkpointEvery: _, ...older } = result.outcomes[0].spec
  writeFileSync(file, asJson({ ...result, outcomes: [{ ...result.outcomes[0], spec: older }] }))
  renameSync(join(data, 'lenet-seed-1'), join(data, 'gone'))
  const fourth = reproduce(...command.map((word, i) => (i === 3 ? '2' : word)), '--add')
  expect([await fourth.exit, fourth.errors()]).toEqual([0, expect.stringContaining('seed-1: written down before')])
  const added = JSON.parse(readFileSync(join(data, 'results', 'lenet.json'), 'utf8')) as Result
  expect(added.outcomes).toEqual([
    { ...result.outcomes[0], spec: older },
    expect.objectContaining({ seed: 2, examples: 1200 }),
  ])
  expect(existsSync(join(data, 'lenet-seed-1'))).toBe(false)
  renameSync(join(data, 'gone'), join(data, 'lenet-seed-1'))

  const other = reproduce(...command.map((word, i) => (i === 5 ? '2' : word)))
  expect([await other.exit, other.errors()]).toEqual([2, expect.stringContaining('seed-1 with other settings')])
}, 90_000)

test("class samples are drawn, shown, and judged by another trial of the row, whose conditions are not the row's", async () => {
  const data = newFolder()
  const command = reproduce('generated', '--quick', '--seeds', '1', '--volunteers', '1', '--data', data)
  expect([await command.exit, command.errors()]).toEqual([0, expect.stringContaining('judge-1: begins')])
  const result = JSON.parse(readFileSync(join(data, 'results', 'generated.json'), 'utf8')) as Result
  const [judge, stack] = result.outcomes
  expect([judge.figures, judge.spec.model.template]).toEqual([{}, 'lenet'])
  expect(stack.figures).toEqual({ right: expect.any(Number), error: expect.any(Number) })
  const { width, height } = decode(readFileSync(join(data, 'plots', 'generated-samples.png')))
  // Ten classes, five of each, of 84 pixels.
  expect([width, height]).toEqual([5 * 90 + 6, 10 * 90 + 6])
  const page = readFileSync(join(data, 'RESULTS.md'), 'utf8')
  const conditions = page.split('\n').find((line) => line.startsWith('| generated | `'))!
  expect(conditions.split(' | ').slice(2, 8)).toEqual([
    '1',
    '1',
    'as fast as it goes',
    expect.any(String),
    `${stack.updates}`,
    '0',
  ])
}, 90_000)

test('what cannot be reproduced is said in a line', async () => {
  const cases: [Program, RegExp][] = [
    [reproduce('lenett'), /there is no row lenett: expected one of dbn, dbn-long/],
    [reproduce('lenet', '--seeds', 'some'), /--seeds: expected a whole number from 1 on, got some/],
    [reproduce('lenet', '--tabs', '2', '--volunteers', '2'), /expected --tabs or --volunteers, got both/],
    [reproduce('lenet', '--tabs', '0'), /--tabs: expected a whole number from 1 on, got 0/],
    [reproduce('scaling', '--tabs', '2'), /row scaling measures crowds of its own: leave --tabs out/],
  ]
  for (const [program, says] of cases) {
    expect([await program.exit, program.errors()]).toEqual([2, expect.stringMatching(says)])
  }
}, 60_000)

test('every row names runs that can run, with the seeds that are asked for, tested at the end only', () => {
  for (const row of ROWS) {
    const settings = { seeds: [1, 2], volunteers: null, quick: false }
    const trials = row.trials(settings)
    expect(new Set(trials.map(({ name }) => name)).size, row.name).toBe(trials.length)
    expect([...new Set(trials.map(({ spec }) => spec.seed))], row.name).toEqual([1, 2])
    expect(trials.filter(({ spec }) => spec.dataset.validate !== undefined)).toEqual([])
    const everyEpochs = ({ spec }: Trial) => (spec.model.template === 'rbm' ? spec.pretrain! : spec).evaluateEveryEpochs
    expect(trials.filter((trial) => everyEpochs(trial) !== 0)).toEqual([])
    const tried = row.choices?.(settings).trials ?? []
    expect(new Set(tried.map(({ name }) => name)).size, row.name).toBe(tried.length)
    expect(tried.filter(({ spec }) => spec.dataset.validate !== 10_000)).toEqual([])
  }
})

const claim: Claim = {
  figure: 'error',
  unit: ' %',
  values: [1.1, 1.3, 1.5],
  reference: 1.96,
  source: 'a slide',
  better: 'lower',
  reach: 1.4,
  aim: 1.2,
}

test('what is measured in tabs is another result of its row, after all rows', () => {
  const settings = { seeds: [1], volunteers: 4, quick: false }
  const [plain, tabs] = [ROWS[0], inTabs(ROWS[0])].map((row) => row.trials(settings)[0])
  expect(tabs).toEqual({ ...plain, crowd: { volunteers: 4, measured: { tabs: true } } })
  const rbm = inTabs(ROWS.find(({ name }) => name === 'rbm')!)
  expect(rbm.trials(settings)[0].sharedWith!.row).toBe('dbn-tabs')
  expect(inTabs(ROWS[0]).choices!(settings).trials[0].crowd.measured).toEqual({ tabs: true })
  const places = [ROWS[0].name, ROWS.at(-1)!.name, `${ROWS[0].name}-tabs`, `${ROWS[1].name}-tabs`].map(placeOf)
  expect(places).toEqual(places.toSorted((a, b) => a - b))
})

test('values that cancel out have a mean of 0, small ones keep theirs', () => {
  expect(0.1 + 0.2 - 0.3).not.toBe(0)
  expect(meanOf([0.1, 0.2, -0.3])).toBe(0)
  expect(meanOf([1e-9, 3e-9])).toBeCloseTo(2e-9, 20)
})

test('the mean is judged, or the worst, against reach and aim', () => {
  expect(judge(claim)).toMatchObject({ min: 1.1, max: 1.5, reached: true, aimed: false })
  expect(judge(claim).ratio).toBeCloseTo(1.3 / 1.96)
  expect(judge({ ...claim, judged: 'worst' }).reached).toBe(false)
  expect(judge({ ...claim, better: 'higher', judged: 'worst' }).reached).toBe(false)
  expect(judge({ ...claim, better: 'near', reference: 1.35, reach: 0.05 }).reached).toBe(true)
  expect(judge({ ...claim, better: 'near', reference: 1.38, reach: 0.05, aim: null })).toMatchObject({
    reached: false,
    aimed: null,
  })
  const noFigure = { ...claim, values: [Number.NaN] }
  expect(missed([claim, { ...claim, reach: null }, noFigure])).toEqual([noFigure])
})

test('a figure has as many digits as tell on which side of its bounds it lies', () => {
  expect([digits(1.9767), digits(1.9767, [1.9, 1.98]), digits(1.98, [1.98]), digits(0.00001, [null])]).toEqual([
    ...['1.98', '1.977', '1.98'],
    '1e-5',
  ])
})

test('the page says what is met and what is not', () => {
  const outcome = {
    ...{ trial: 'seed-1', seed: 1, volunteers: 2, pace: null, replaced: 0, figures: { error: 1.3 }, curves: {} },
    ...{ date: '2026-11-23T09:00:00.000Z', commit: 'abc', machine: 'a Xeon', bytesUp: 5e6, bytesDown: 1.5e7 },
    ...{ seconds: 61, examples: 1200, updates: 10, meanStaleness: 0, spec: ROWS[0].trials(ONE)[0].spec },
  }
  const result: Result = {
    ...{ row: 'dbn', title: '', command: 'reproduce -- dbn', seeds: [1] },
    ...{ claims: [claim], remarks: ['A remark.'], outcomes: [outcome, { ...outcome, seconds: 64 }] },
  }
  const page = section([result], 'plots')
  expect(page).toContain(
    '| [dbn](plots/dbn.svg) | error | 1.96 % (a slide) | 1.3 % (1.1 to 1.5) | 0.663 | ≤ 1.4 %: met by one seed | ≤ 1.2 %: **not met** |',
  )
  expect(page).toContain('| 2 | as fast as it goes | 61 to 64 | 10 | 0 | 5, 15 | abc | a Xeon | 2026-11-23 |')
  expect(page).toContain('dbn: A remark.')
  expect(
    asJson({
      points: [
        [1, 2.3456789123],
        [3, 4e-7],
      ],
      count: 1234567,
    }),
  ).toBe('{\n  "points": [ [ 1, 2.34567891 ], [ 3, 4e-7 ] ],\n  "count": 1234567\n}\n')
})

test('a/n + b·n is found again, and charts hold every point', () => {
  const { a, b, worst } = fitted([1, 2, 3, 4].map((n) => [n, 238 / n + 16.4 * n] as const))
  expect(a).toBeCloseTo(238)
  expect(b).toBeCloseTo(16.4)
  expect(worst).toBeLessThan(1e-9)
  const points = [
    [1, 0.001],
    [2, 100],
    [3, 0],
  ] as const
  const drawn = svg([
    {
      title: 'a < b',
      x: { label: 'x' },
      y: { label: 'y', logarithmic: true },
      curves: [{ name: 'c', points, as: 'dots' }],
    },
  ])
  expect(drawn.match(/<circle/g)).toHaveLength(3 + 1)
  expect(drawn).toContain('a &lt; b')
  expect(drawn).not.toMatch(/NaN|Infinity/)
})

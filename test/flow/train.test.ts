/** `npm run train`: the command line that trains a RunSpec on this machine, as a process of its own. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { newFolder, removeFolders, SMALL, until } from '../support/coordinator.ts'
import { countsOf, offlineFold } from '../support/offline-fold.ts'
import { type Program, startProgram } from '../support/processes.ts'

const programs: Program[] = []
afterAll(removeFolders)
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.end()))
})

function train(spec: unknown, ...options: string[]): Program {
  const file = join(newFolder(), 'spec.json')
  writeFileSync(file, typeof spec === 'string' ? spec : JSON.stringify(spec))
  const program = startProgram('coordinator/train.ts', [file, ...options])
  programs.push(program)
  return program
}

test('Ctrl-C leaves a run that the same command finishes, every example counted once [E1] [J2]', async () => {
  const data = newFolder()
  const spec = {
    ...SMALL,
    strategy: { name: 'downpour', batchSize: 20, pushEvery: 1 },
    stop: { epochs: 4 },
    journal: 'everything',
  }
  const options = ['--volunteers', '1', '--pace', '700', '--json', '--data', data]
  const first = train(spec, ...options)
  const written = () => statSync(join(data, 'journal.sqlite'), { throwIfNoEntry: false })?.size ?? 0
  await until('some updates are in the journal', () => written() > 1_000_000)
  first.child.kill('SIGINT')
  expect(await first.exit).toBe(130)
  expect(first.errors()).toMatch(/Interrupted\. To go on: npm run train -- .*--data/)
  expect(first.output()).toBe('')

  const second = train(spec, ...options)
  expect(await second.exit).toBe(0)
  expect(second.errors()).toMatch(/Going on with run r\w+ at epoch [0-3]\.\d\d\./)
  const report = JSON.parse(second.output().trim().split('\n').at(-1)!)
  expect(report).toMatchObject({ epochs: 4, examples: 2400, versions: 120, updatesAccepted: 120, updatesRefused: 0 })
  expect(report.testAccuracy).toBeGreaterThan(0.6)

  const { updates, bits } = offlineFold(data, report.run)
  const counts = countsOf(updates, 600)
  expect([...counts.keys()].sort()).toEqual([0, 1, 2, 3])
  for (const epoch of counts.values()) expect([...new Set(epoch)]).toEqual([1])
  expect(new Set(updates.map(({ lease }) => lease.split('.')[1])).size, 'both processes trained').toBe(2)
  expect(readFileSync(join(data, 'model', 'model.weights.bin')).equals(bits)).toBe(true)
}, 90_000)

test('what cannot be trained is said in a line and ends with a code, and nothing hangs', async () => {
  const file = join(newFolder(), 'file')
  writeFileSync(file, '')
  const cases: [Program, number, RegExp][] = [
    [train('{ "name": '), 1, /spec\.json is not a RunSpec: .*JSON/],
    [train({ ...SMALL, seed: -1, colour: 'red' }), 1, /cannot run:\n {2}seed: .*\n {2}colour: there is no such field/],
    [
      train({ ...SMALL, dataset: { name: 'mnist', train: 99_999 } }, '--data', newFolder()),
      1,
      /spec\.json cannot run:\n {2}dataset\.train: expected 1 to 60000, .*got 99999/,
    ],
    [train(SMALL, '--data', file), 1, /cannot keep runs in .*, expected a folder/],
    [
      train({ ...SMALL, updateRule: { name: 'sgd', rate: 1e9 } }, '--volunteers', '1', '--data', newFolder()),
      1,
      /the run failed: training diverged: /,
    ],
    [train(SMALL, '--volunteers', 'many', '--data', newFolder()), 1, /--volunteers: expected a whole number.*got many/],
    [
      train(SMALL, '--volunteers', '1', '--backend', 'abacus', '--data', newFolder()),
      1,
      /--backend: expected one of .*got abacus(?:.|\n)*every volunteer ended by itself/,
    ],
    [
      train(SMALL, '--volunteers', '1', '--pace', 'fast', '--data', newFolder()),
      1,
      /--pace: expected .*got fast(?:.|\n)*every volunteer ended by itself/,
    ],
  ]
  for (const [program, code, says] of cases) {
    expect([await program.exit, program.errors()]).toEqual([code, expect.stringMatching(says)])
    expect(program.errors()).not.toMatch(/\n {4}at /)
  }
}, 90_000)

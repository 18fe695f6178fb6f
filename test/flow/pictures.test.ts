/** The pictures of real runs: `npm run train` writes them beside the model, and the operator API serves the same. */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { decode } from 'fast-png'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import type { ApiError, PictureEntry, RunDetail, RunMetrics } from '../../shared/api.ts'
import {
  newFolder,
  removeFolders,
  SMALL,
  startCoordinator,
  type TestCoordinator,
  until,
} from '../support/coordinator.ts'
import { type Program, startProgram } from '../support/processes.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

const DIGITS = { name: 'mnist', train: 300, test: 100 }
const STEPS = { name: 'synchronous', batchSize: 50, portionSize: 50 }

const programs: Program[] = []
const coordinators: TestCoordinator[] = []
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.end()))
  for (const coordinator of coordinators.splice(0)) await coordinator.close()
})
afterAll(removeFolders)

async function start(dataFolder?: string): Promise<TestCoordinator> {
  const coordinator = await startCoordinator({ dataFolder })
  coordinators.push(coordinator)
  return coordinator
}

interface Trained {
  data: string
  report: { run: string; testAccuracy: number | null; testMeasure: number | null; pictures: string[] }
}

async function train(spec: object): Promise<Trained> {
  const data = newFolder()
  const file = join(data, 'spec.json')
  writeFileSync(file, JSON.stringify({ dataset: DIGITS, codec: { up: 'f32' }, ...spec }))
  const program = startProgram('coordinator/train.ts', [file, '--volunteers', '1', '--data', data, '--json'])
  programs.push(program)
  expect([await program.exit, program.errors()]).toEqual([0, expect.anything()])
  return { data, report: JSON.parse(program.output().trim().split('\n').at(-1)!) }
}

const namesOf = (pictures: string[]) => pictures.map((path) => basename(path, '.png'))

/** What the coordinator answers at an address of the run's pictures. */
const pictures = (coordinator: TestCoordinator, run: string, rest = '') =>
  coordinator.api('GET', `/api/runs/${run}/pictures${rest}`)

describe('pictures', () => {
  test('of a deep belief network are written beside the model, and served as they were written', async () => {
    const { data, report } = await train({
      model: { template: 'mlp', hidden: [20, 12], activation: 'sigmoid' },
      pretrain: { epochs: 1, strategy: STEPS },
      strategy: STEPS,
      updateRule: { name: 'adam', rate: 0.01 },
      stop: { epochs: 2 },
    })
    const names = ['confusion', 'reconstructions', 'filters', 'filters-rbm-1', 'filters-rbm-2', 'mistakes']
    expect(namesOf(report.pictures)).toEqual(names)
    expect(report.pictures[0]).toBe(join(data, 'model', 'confusion.png'))

    const coordinator = await start(data)
    const answer = await pictures(coordinator, report.run)
    const { pictures: listed } = (await answer.json()) as { pictures: PictureEntry[] }
    expect(listed.map(({ name }) => name)).toEqual(names)
    expect(listed.map((entry) => Object.keys(entry))).toEqual(names.map(() => ['name', 'title', 'words']))
    expect(listed[0].words).toContain(`${Math.round(100 * report.testAccuracy!)} of 100 test examples right`)
    for (const [i, name] of names.entries()) {
      const served = await pictures(coordinator, report.run, `/${name}.png`)
      expect([served.status, served.headers.get('content-type')]).toEqual([200, 'image/png'])
      const bytes = Buffer.from(await served.arrayBuffer())
      expect(Buffer.compare(bytes, readFileSync(report.pictures[i])), name).toBe(0)
      const { width, height } = decode(bytes)
      expect(Math.min(width, height)).toBeGreaterThan(100)
    }

    // The curves know which stage they are of.
    const detail = (await (await coordinator.api('GET', `/api/runs/${report.run}`)).json()) as RunDetail
    expect(detail).toMatchObject({ state: 'finished', stage: 'train', progress: 1 })
    const metrics = (await (await coordinator.api('GET', `/api/runs/${report.run}/metrics`)).json()) as RunMetrics
    expect(metrics.test.map(({ stage }) => stage)).toEqual(['rbm-1', 'rbm-2', 'train', 'train'])
  }, 60_000)

  test('of an autoencoder are its reconstructions and filters, and the report has its squared error', async () => {
    const { report } = await train({
      model: { template: 'autoencoder', hidden: [30, 8] },
      strategy: STEPS,
      updateRule: { name: 'adam', rate: 0.005 },
      stop: { epochs: 3 },
    })
    expect(namesOf(report.pictures)).toEqual(['reconstructions', 'filters'])
    expect(report).toMatchObject({ testAccuracy: null, testMeasure: expect.any(Number) })
    expect(report.testMeasure).toBeGreaterThan(10)
    expect(report.testMeasure).toBeLessThan(110)
  }, 60_000)

  test('of a stack of RBMs that sees labels are also those of a classifier: by free energy', async () => {
    const { data, report } = await train({
      ...{ model: { template: 'rbm', hidden: [30, 40], labels: true }, codec: undefined },
      pretrain: { epochs: 12, strategy: STEPS, codec: { up: 'f32', down: 'f32' }, evaluateEveryEpochs: 0 },
      stop: { epochs: 1 },
    })
    expect(namesOf(report.pictures)).toEqual(['confusion', 'reconstructions', 'filters', 'filters-rbm-2', 'mistakes'])
    // 300 digits seen: chance is 0.1.
    expect(report.testAccuracy).toBeGreaterThan(0.5)
    const coordinator = await start(data)
    const detail = (await (await coordinator.api('GET', `/api/runs/${report.run}`)).json()) as RunDetail
    expect(detail).toMatchObject({ state: 'finished', stage: 'rbm-2', testAccuracy: report.testAccuracy })
    const metrics = (await (await coordinator.api('GET', `/api/runs/${report.run}/metrics`)).json()) as RunMetrics
    expect(metrics.test.map(({ stage, accuracy }) => [stage, accuracy])).toEqual([
      ['rbm-1', 0],
      ['rbm-2', report.testAccuracy],
    ])
    // Nothing of what it knows is lost to who takes it away.
    const served = await coordinator.api('GET', `/api/runs/${report.run}/machines.safetensors`)
    const bytes = Buffer.from(await served.arrayBuffer())
    expect(Buffer.compare(bytes, readFileSync(join(data, 'model', 'machines.safetensors')))).toBe(0)
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString())
    const shapes = Object.entries<{ shape: number[] }>(header).map(([name, { shape }]) => [name, shape])
    expect(shapes).toEqual([
      ['rbm_1/kernel', [784, 30]],
      ['rbm_1/bias', [30]],
      ['rbm_1/visible_bias', [784]],
      ['rbm_2/kernel', [30 + 10, 40]],
      ['rbm_2/bias', [40]],
      ['rbm_2/visible_bias', [30 + 10]],
    ])
  }, 60_000)

  test('that there are not are refused with those there are, and nobody without the token sees any [O1]', async () => {
    const coordinator = await start()
    const { run } = await coordinator.createRun(SMALL)
    const refusal = async (rest: string) => {
      const answer = await pictures(coordinator, run, rest)
      return [answer.status, ((await answer.json()) as ApiError).error] as const
    }
    expect(await refusal('/confusion.png')).toEqual([
      404,
      { code: 'not-found', message: `run ${run} has no picture confusion; it has filters` },
    ])
    expect((await pictures(coordinator, 'nobody')).status).toBe(404)
    const machines = await coordinator.api('GET', `/api/runs/${run}/machines.safetensors`)
    expect([machines.status, ((await machines.json()) as ApiError).error.message]).toEqual([
      404,
      `run ${run} has no machines: a stack of RBMs has them, and what was pre-trained as one`,
    ])
    for (const path of ['', '/filters.png']) {
      expect((await fetch(`${coordinator.url}/api/runs/${run}/pictures${path}`)).status).toBe(401)
    }
  })

  test('of a run that failed are those of its last good checkpoint', async () => {
    const coordinator = await start()
    const { run } = await coordinator.createRun({
      ...SMALL,
      updateRule: { name: 'sgd', rate: 1e20 },
      checkpointEvery: 1000,
    })
    const filters = async () => Buffer.from(await (await pictures(coordinator, run, '/filters.png')).arrayBuffer())
    const before = await filters()
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    await volunteer.work(2)
    expect(Buffer.compare(await filters(), before)).not.toBe(0)
    const found = coordinator.runs.get(run)!
    coordinator.runs.move(found, 'failed', 'for the test', Date.now())
    await until('it has failed', () => found.state === 'failed')
    expect(Buffer.compare(await filters(), before)).toBe(0)
    volunteer.close()
  })
})

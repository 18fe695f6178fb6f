/**
 * Real volunteers at a real coordinator: the loop, the WASM engine and the connection that run in a browser's worker,
 * in this process or in one of their own.
 */
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { Examples, unpackShard } from '../../client/volunteer/examples.ts'
import { Volunteer } from '../../client/volunteer/volunteer.ts'
import { openDataset } from '../../coordinator/datasets/datasets.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { Shards } from '../../coordinator/run/shards.ts'
import type { RunMetrics } from '../../shared/api.ts'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import {
  newFolder,
  removeFolders,
  SMALL,
  startCoordinator,
  type TestCoordinator,
  until,
} from '../support/coordinator.ts'
import { countsOf, offlineFold } from '../support/offline-fold.ts'
import { type Program, startProgram } from '../support/processes.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

afterAll(removeFolders)

/** What a test leaves running when it fails. */
const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function coordinate(options: Parameters<typeof startCoordinator>[0] = {}): Promise<TestCoordinator> {
  const coordinator = await startCoordinator(options)
  ends.push(() => coordinator.close())
  return coordinator
}

/** A volunteer in this process, computing on WASM; `stop` ends it. */
function volunteerFor(address: string, run: string, pace?: number) {
  const volunteer = new Volunteer({
    address,
    run,
    pace,
    cache: new MemoryBlobs(),
    openEngine: () => openEngine('wasm'),
  })
  const ended = volunteer.run()
  const stop = async () => {
    volunteer.stop()
    return ended
  }
  ends.push(stop)
  return { volunteer, stop }
}

function headless(url: string, ...options: string[]): Program {
  const program = startProgram('client/volunteer/headless.ts', [url, '--backend', 'wasm', ...options])
  ends.push(() => program.end())
  return program
}

describe('a run', () => {
  test('trains to its end while its accuracy rises, tested by the coordinator itself', async () => {
    const coordinator = await coordinate({ ownVolunteer: true })
    const { run } = await coordinator.createRun({
      ...SMALL,
      dataset: { name: 'mnist', train: 1500, test: 500 },
      strategy: { name: 'downpour', batchSize: 20, pushEvery: 5 },
      codec: { up: 'int8', down: 'f16' },
      updateRule: { name: 'sgd', rate: 0.05 },
      stop: { epochs: 4 },
      evaluateEveryEpochs: 1,
    })
    const inside = coordinator.runs.get(run)!
    await until('the own volunteer is there', () => inside.detail(Date.now()).volunteers.length > 0)
    // An epoch takes a second: there is time to test on the way.
    volunteerFor(coordinator.url, run, 1500)
    await until('the run is finished', () => inside.over, 40_000)
    const { test } = (await (await coordinator.api('GET', `/api/runs/${run}/metrics`)).json()) as RunMetrics
    expect(inside.detail(Date.now())).toMatchObject({ state: 'finished', examples: 6000, epoch: 4, updatesRefused: 0 })
    expect(test.at(-1)!.version).toBe(inside.parameters.version)
    expect(test.at(-1)!.accuracy).toBeGreaterThan(0.75)
    expect(test.at(-1)!.loss).toBeLessThan(1)
    expect(test.length).toBeGreaterThan(1)
    expect(test.at(-1)!.accuracy).toBeGreaterThan(test[0].accuracy)
  })

  test('in batches refuses nothing to four volunteers [L2]', async () => {
    const coordinator = await coordinate()
    const { run } = await coordinator.createRun({
      ...SMALL,
      dataset: { name: 'mnist', train: 400, test: 10 },
      // Larger than a chunk: updates are sent with their announcement.
      model: { template: 'mlp', hidden: [50] },
      strategy: { name: 'synchronous', batchSize: 40, portionSize: 10 },
      stop: { epochs: 10 },
    })
    const inside = coordinator.runs.get(run)!
    for (let n = 0; n < 4; n++) headless(coordinator.url, '--run', run, '--pace', '200')
    await until('every example is counted', () => inside.trained, 40_000)
    expect(await (await fetch(`${coordinator.url}/metrics`)).text()).not.toContain('crowdgrad_refusals_total{')
  })

  test('with one worker, fetch = push = 1, codec f32 and rule sgd has the bits of sequential SGD [D1]', async () => {
    const coordinator = await coordinate()
    // The last minibatch of an epoch is a short one.
    const dataset = { name: 'mnist', train: 605, test: 10 } as const
    const strategy = { name: 'downpour', batchSize: 10, pushEvery: 1, fetchEvery: 1 }
    const { run, spec } = await coordinator.createRun({ ...SMALL, dataset, strategy, stop: { epochs: 2 } })
    const { stop } = volunteerFor(coordinator.url, run)
    const inside = coordinator.runs.get(run)!
    await until('every example is counted', () => inside.trained)
    await stop()
    expect(inside.detail(0)).toMatchObject({ versions: 122, meanStaleness: 0, examples: 1210 })

    const model = buildModel(spec.model, { inputShape: [28, 28, 1], classes: 10 }, null)
    const engine = await openEngine('wasm')
    const trainer = await engine.load(model)
    const { train } = openDataset(dataset)
    const order = new Shards(train, spec.seed, 'shuffled')
    const shards = await Promise.all(Array.from({ length: train.shards }, (_, i) => unpackShard(train.shard(i).bytes)))
    const parameters = initialParameters(model.layout, spec.seed)
    const rate = Math.fround(spec.updateRule.rate)
    for (const epoch of [0, 1]) {
      const segments = order.segments([{ epoch, from: 0, to: 605 }])
      const examples = new Examples(
        { kind: 'gradient', stage: 0, seed: spec.seed, shuffled: true, fraction: 1, batchSize: 10, segments },
        segments.map(({ shardIndex }) => shards[shardIndex]),
      )
      for (const minibatch of examples.minibatches()) {
        trainer.begin(parameters)
        trainer.step(minibatch, { localRate: 0, weight: 1 })
        const { gradient } = await trainer.finish()
        for (let i = 0; i < parameters.length; i++) parameters[i] -= Math.fround(rate * gradient![i])
      }
    }
    trainer.dispose()
    await engine.close()
    expect(coordinator.bits(run).equals(Buffer.from(parameters.buffer))).toBe(true)
  })
})

describe('leases that overlap', () => {
  test('are one update behind with one volunteer, and every example still counts once an epoch [L10] [E1]', async () => {
    const dataFolder = newFolder()
    const coordinator = await coordinate({ dataFolder })
    const spec = {
      ...SMALL,
      strategy: { name: 'downpour', batchSize: 10, pushEvery: 2, overlap: true },
      stop: { epochs: 3 },
      journal: 'everything',
    }
    const { run } = await coordinator.createRun(spec)
    const { stop } = volunteerFor(coordinator.url, run)
    await until('all is counted', () => coordinator.runs.get(run)!.trained)
    expect(await stop()).toMatchObject({ updatesRefused: 0 })
    await coordinator.stop()
    const { updates } = offlineFold(dataFolder, run)
    // Every update is a version: of the n-th the base is the one before the last, but where it was overtaken: of two
    // that are begun the one that is ready first is computed.
    const behind = updates.map(({ version }, before) => before - version)
    const overtaken = updates.map(
      ({ version }, n) => updates.slice(0, n).filter((other) => other.version > version).length,
    )
    expect(Math.max(...behind.map((staleness, n) => staleness - overtaken[n]))).toBeLessThanOrEqual(1)
    expect(behind.filter((staleness) => staleness === 1).length).toBeGreaterThan(0.8 * updates.length)
    for (const epoch of countsOf(updates, 600).values()) expect([...new Set(epoch)]).toEqual([1])
  })
})

describe('volunteers come and go', () => {
  test('one that is killed costs its leases and nothing else [E1] [E2]', async () => {
    let skipMs = 0
    const dataFolder = newFolder()
    const coordinator = await coordinate({ dataFolder, now: () => Date.now() + skipMs })
    const { run } = await coordinator.createRun({ ...SMALL, stop: { epochs: 2 }, journal: 'everything' })
    const inside = coordinator.runs.get(run)!
    const slow = headless(coordinator.url, '--run', run, '--pace', '10')
    await until('it holds two leases', () => inside.detail(0).volunteers[0]?.leases === 2)
    await slow.end('SIGKILL')

    const { stop } = volunteerFor(coordinator.url, run)
    await until('the other one has done all the rest', () => inside.detail(0).examples >= 1180, 30_000)
    expect(inside.trained).toBe(false)
    skipMs = 3_600_000
    await until('it did what the killed one had held, too', () => inside.trained)
    await stop()
    await coordinator.stop()
    const { updates } = offlineFold(dataFolder, run)
    const counts = countsOf(updates, 600)
    expect([...counts.keys()].sort()).toEqual([0, 1])
    for (const epoch of counts.values()) expect([...new Set(epoch)]).toEqual([1])
  })

  test('one that is told to stop gives its leases back at once [E2]', async () => {
    const coordinator = await coordinate()
    const { run } = await coordinator.createRun(SMALL)
    const inside = coordinator.runs.get(run)!
    const leaving = headless(coordinator.url, '--run', run, '--pace', '10')
    await until('it holds two leases', () => inside.detail(0).volunteers[0]?.leases === 2)
    leaving.child.kill('SIGTERM')
    expect(await leaving.exit).toBe(0)
    expect(leaving.output()).toMatch(/stopped/)
    await until('it is gone', () => inside.detail(0).volunteers[0].connected === false)
    expect(inside.detail(0).volunteers[0].leases).toBe(0)
  })

  test('one that is cut off comes back as itself, to a coordinator that was started again [G4]', async () => {
    const dataFolder = newFolder()
    const first = await coordinate({ dataFolder })
    const { run } = await first.createRun(SMALL)
    const { volunteer } = volunteerFor(first.url, run)
    await until('it trains', () => volunteer.status.updatesAccepted > 3)
    const [{ volunteer: name }] = first.runs.get(run)!.detail(0).volunteers
    await first.stop()
    await until('it noticed', () => volunteer.status.state === 'reconnecting')

    const again = await coordinate({ dataFolder, port: Number(new URL(first.url).port) })
    const inside = again.runs.get(run)!
    await until('it trains again', () => inside.detail(0).volunteers[0]?.updatesAccepted > 3)
    expect(inside.detail(0).volunteers).toMatchObject([{ volunteer: name, connected: true }])
    expect(volunteer.status.state).toMatch(/working|waiting/)
  })
})

describe('an orderly end', () => {
  /** The newest checkpoint of a run, and its newest entry. */
  function lastOf(folder: string, run: string): { checkpoint: number | undefined; entry: number; leases: string[] } {
    const journal = openSqliteJournal(join(folder, 'journal.sqlite'))
    const entries = [...journal.read(run, 0)]
    const checkpoint = journal.loadCheckpoint(run)?.seq
    journal.close()
    const leases = entries.filter(({ kind }) => kind === 'update').map(({ data }) => (data as { lease: string }).lease)
    return { checkpoint, entry: entries.at(-1)!.seq, leases }
  }

  test('closing in the middle of everything loses no acknowledged update, and leaves nothing to fold [J1] [J4]', async () => {
    const dataFolder = newFolder()
    const coordinator = await coordinate({ dataFolder })
    const { run } = await coordinator.createRun({ ...SMALL, journal: 'everything' })
    const volunteers = await Promise.all(
      Array.from({ length: 8 }, () => SyntheticVolunteer.join(coordinator.url, { run })),
    )
    const working = volunteers.map((volunteer) => volunteer.work(1_000_000).catch(() => {}))
    await until('they all work', () => volunteers.every(({ acknowledged }) => acknowledged.length > 2))
    await coordinator.stop()
    await Promise.all(working)
    const { checkpoint, entry, leases } = lastOf(dataFolder, run)
    expect(checkpoint).toBe(entry)
    const acknowledged = volunteers.flatMap((volunteer) => volunteer.acknowledged.map(({ lease }) => lease))
    expect(acknowledged.filter((lease) => !leases.includes(lease))).toEqual([])
    expect(new Set(leases).size).toBe(leases.length)
  })

  test('npm start ends on SIGTERM with a checkpoint and code 0', async () => {
    const folder = newFolder()
    const program = startProgram('coordinator/main.ts', [], { PORT: '0', CROWDGRAD_DATA: folder })
    ends.push(() => program.end())
    const [, url] = await program.printed(/contribute\s+(http:\S+)\//)
    const [, token] = await program.printed(/token=([0-9a-f]+)/)
    const created = await fetch(`${url}/api/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(SMALL),
    })
    const { run } = (await created.json()) as { run: string }
    const volunteer = await SyntheticVolunteer.join(url, { run })
    await volunteer.work(5)
    program.child.kill('SIGTERM')
    expect([await program.exit, program.errors()]).toEqual([0, ''])
    volunteer.close()
    const { checkpoint, entry, leases } = lastOf(folder, run)
    expect(checkpoint).toBe(entry)
    expect(leases).toEqual(volunteer.acknowledged.map(({ lease }) => lease))
  })
})

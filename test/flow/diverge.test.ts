/** Runs that diverge: they end in state failed with what to do about it, and their last good parameters are kept. */
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { Volunteer } from '../../client/volunteer/volunteer.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { removeFolders, SMALL, startCoordinator, type TestCoordinator, until } from '../support/coordinator.ts'
import { SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

afterAll(removeFolders)

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function coordinate(options: Parameters<typeof startCoordinator>[0] = {}): Promise<TestCoordinator> {
  const coordinator = await startCoordinator(options)
  ends.push(() => coordinator.close())
  return coordinator
}

function volunteerFor(address: string, run: string): void {
  const volunteer = new Volunteer({ address, run, cache: new MemoryBlobs(), openEngine: () => openEngine('wasm') })
  const ended = volunteer.run()
  ends.push(() => {
    volunteer.stop()
    return ended
  })
}

/** Deep enough that the replica overflows within a lease, and the server's own parameters stay finite. */
const WILD = {
  ...SMALL,
  model: { template: 'mlp', hidden: [64, 32] },
  strategy: { name: 'downpour', batchSize: 20, pushEvery: 10 },
  updateRule: { name: 'sgd', rate: 10_000 },
}

describe('a run that diverges fails [T4]', () => {
  test('within a lease, where no update can be taken: the coordinator computes one itself to know', async () => {
    const coordinator = await coordinate({ ownVolunteer: true })
    const { run } = await coordinator.createRun(WILD)
    const initial = coordinator.bits(run)
    volunteerFor(coordinator.url, run)
    const inside = coordinator.runs.get(run)!
    await until('the run is failed', () => inside.state === 'failed', 40_000)
    expect(inside.detail(0)).toMatchObject({
      updatesAccepted: 0,
      reason: expect.stringMatching(/^training diverged: what the coordinator itself computed .* lower the rate$/),
    })
    expect(coordinator.bits(run).equals(initial)).toBe(true)
  })

  test('not because volunteers send nonsense: the coordinator finds nothing wrong, and its update counts', async () => {
    const coordinator = await coordinate({ ownVolunteer: true })
    const { run } = await coordinator.createRun(SMALL)
    const liar = await SyntheticVolunteer.join(coordinator.url, {
      run,
      gradient: (_lease, _start, size) => new Float32Array(size).fill(Number.NaN),
    })
    ends.push(() => liar.close())
    const inside = coordinator.runs.get(run)!
    for (let refused = 0; refused < 12; refused++) {
      const { lease, start } = await liar.begin()
      expect(await liar.send(lease, start)).toMatchObject({ code: 'non-finite' })
    }
    await until('the coordinator has computed a lease', () => inside.detail(0).updatesAccepted > 0)
    expect(inside.state).toBe('running')
  })

  test('when the loss explodes: the model to take away is the last good one', async () => {
    const coordinator = await coordinate()
    const { run } = await coordinator.createRun({ ...SMALL, checkpointEvery: 10 })
    const inside = coordinator.runs.get(run)!
    const volunteer = await SyntheticVolunteer.join(coordinator.url, { run })
    ends.push(() => volunteer.close())
    await volunteer.work(20)
    const good = coordinator.bits(run)
    expect(inside.state).toBe('running')
    for (let i = 0; i < 12 && inside.state === 'running'; i++) {
      const { lease, start } = await volunteer.begin()
      const update = volunteer.update(lease, start)
      const payload = volunteer.payload(lease, start)
      await volunteer.ask('update', { ...update, payload, lossSum: 1e3 * update.examples })
    }
    expect(inside.detail(0)).toMatchObject({ state: 'failed', reason: expect.stringMatching(/the loss of the last/) })
    const weights = async (url: string, token: string) => {
      const headers = { authorization: `Bearer ${token}` }
      const response = await fetch(`${url}/api/runs/${run}/model.weights.bin`, { headers })
      return Buffer.from(await response.arrayBuffer())
    }
    expect((await weights(coordinator.url, coordinator.token)).equals(good)).toBe(true)
    await coordinator.stop()
    const again = await coordinate({ dataFolder: coordinator.folder })
    expect(again.runs.get(run)!.state).toBe('failed')
    expect((await weights(again.url, again.token)).equals(good)).toBe(true)
    await again.stop()
    const journal = openSqliteJournal(`${coordinator.folder}/journal.sqlite`)
    ends.push(() => journal.close())
    expect(journal.loadCheckpoint(run)!.seq).toBeLessThan(30)
  })

  test('when a step overflows that no loss tells of: what is not finite is never kept', async () => {
    const coordinator = await coordinate()
    const updateRule = { name: 'sgd', rate: 3e38 }
    const { run } = await coordinator.createRun({ ...SMALL, updateRule, checkpointEvery: 1 })
    const initial = coordinator.bits(run)
    const volunteer = await SyntheticVolunteer.join(coordinator.url, {
      run,
      gradient: (_lease, _start, size) => new Float32Array(size).fill(3),
    })
    ends.push(() => volunteer.close())
    await volunteer.work(2)
    const inside = coordinator.runs.get(run)!
    expect([inside.state, inside.history.sound]).toEqual(['running', false])
    await coordinator.stop()
    const again = await coordinate({ dataFolder: coordinator.folder })
    const recovered = again.runs.get(run)!
    expect(again.runs.move(recovered, 'finished', null, Date.now())).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/parameters are not finite.*lower the rate/),
    })
    const headers = { authorization: `Bearer ${again.token}` }
    const response = await fetch(`${again.url}/api/runs/${run}/model.weights.bin`, { headers })
    expect(Buffer.from(await response.arrayBuffer()).equals(initial)).toBe(true)
  })

  test("when an RBM's units are all saturated, of which its bounded loss does not tell", async () => {
    const coordinator = await coordinate()
    const { dataset } = SMALL
    const pretrain = { epochs: 30, updateRule: { name: 'momentum', rate: 1000 } }
    const model = { template: 'rbm', hidden: [20] }
    const { run } = await coordinator.createRun({ dataset, model, pretrain, stop: { epochs: 1 } })
    volunteerFor(coordinator.url, run)
    const inside = coordinator.runs.get(run)!
    await until('the run is over', () => inside.over, 40_000)
    const reason = expect.stringMatching(/root mean square of the weights is .* lower the rate$/)
    expect(inside.detail(0)).toMatchObject({ state: 'failed', reason })
  })

  test('and what was stopped in order on its way there is not it', async () => {
    const coordinator = await coordinate()
    const { run } = await coordinator.createRun(SMALL)
    const join = async (at: TestCoordinator) => {
      const volunteer = await SyntheticVolunteer.join(at.url, { run })
      ends.push(() => volunteer.close())
      return volunteer
    }
    const push = async (at: TestCoordinator, volunteer: SyntheticVolunteer, loss: number, updates: number) => {
      const inside = at.runs.get(run)!
      for (let i = 0; i < updates && inside.state === 'running'; i++) {
        const { lease, start } = await volunteer.begin()
        const payload = volunteer.payload(lease, start)
        const lossSum = loss * lease.batchSize
        await volunteer.ask('update', { ...volunteer.update(lease, start), payload, lossSum })
      }
    }
    const initial = coordinator.bits(run)
    const volunteer = await join(coordinator)
    await push(coordinator, volunteer, 1, 10)
    // Three to twenty times what knows nothing: suspected, not failed.
    await push(coordinator, volunteer, 12, 8)
    const inside = coordinator.runs.get(run)!
    expect([inside.state, inside.history.sound]).toEqual(['running', false])
    await coordinator.stop()
    const again = await coordinate({ dataFolder: coordinator.folder })
    // Until the voice from before is not heard any more.
    await push(again, await join(again), 1e3, 100)
    expect(again.runs.get(run)!.state).toBe('failed')
    const headers = { authorization: `Bearer ${again.token}` }
    const response = await fetch(`${again.url}/api/runs/${run}/model.weights.bin`, { headers })
    expect(Buffer.from(await response.arrayBuffer()).equals(initial)).toBe(true)
  })
})

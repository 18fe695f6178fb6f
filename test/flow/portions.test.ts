/** What portions a pass is cut into makes no difference to an L-BFGS run, on a real crowd. */
import { afterAll, describe, expect, test } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { Volunteer } from '../../client/volunteer/volunteer.ts'
import { removeFolders, SMALL, startCoordinator, until } from '../support/coordinator.ts'
import { startProgram } from '../support/processes.ts'

afterAll(removeFolders)

const BATCH = 10

/** The loss after each iteration, by `volunteers` in portions of so many examples. */
async function lossesOf(portionSize: number, volunteers: number): Promise<number[]> {
  const coordinator = await startCoordinator({ ownVolunteer: true })
  const crowd: Volunteer[] = []
  try {
    const { run } = await coordinator.createRun({
      ...SMALL,
      model: { template: 'mlp', hidden: [30], activation: 'tanh' },
      strategy: { name: 'sandblaster', portionSize, batchSize: BATCH, tolerance: 0 },
      updateRule: undefined,
      codec: undefined,
      stop: { epochs: 15 },
    })
    for (let i = 0; i < volunteers; i++) {
      const address = coordinator.url
      crowd.push(new Volunteer({ address, run, cache: new MemoryBlobs(), openEngine: () => openEngine('wasm') }))
    }
    const ended = crowd.map((volunteer) => volunteer.run())
    const inside = coordinator.runs.get(run)!
    await until('the run is over', () => inside.over, 60_000)
    for (const volunteer of crowd) volunteer.stop()
    await Promise.all(ended)
    return inside.history.strategy.history!.map(({ loss }) => loss)
  } finally {
    await coordinator.close()
  }
}

test('[Y2] a volunteer that is killed in the middle of a portion changes no bit', async () => {
  const spec = {
    ...SMALL,
    model: { template: 'mlp', hidden: [30], activation: 'tanh' },
    strategy: { name: 'sandblaster', portionSize: 100, batchSize: BATCH, tolerance: 0, backups: false },
    updateRule: undefined,
    codec: undefined,
    stop: { epochs: 5 },
  }
  const weightsOf = async (kill: boolean) => {
    let skipMs = 0
    const coordinator = await startCoordinator({ ownVolunteer: true, now: () => Date.now() + skipMs })
    const { run } = await coordinator.createRun(spec)
    const inside = coordinator.runs.get(run)!
    const computing = () =>
      inside.inspect().leases.find(({ kind, state }) => kind === 'gradient' && state === 'started')
    let volunteer: Volunteer | null = null
    try {
      let lost: string | null = null
      if (kill) {
        const slow = startProgram('client/volunteer/headless.ts', [coordinator.url, '--run', run, '--pace', '100'])
        await until(
          'it computes a portion of the third pass',
          () => inside.history.epochs.current >= 2 && computing() !== undefined,
        )
        lost = computing()!.id
        await slow.end('SIGKILL')
        skipMs = 3_600_000
      }
      const address = coordinator.url
      volunteer = new Volunteer({ address, run, cache: new MemoryBlobs(), openEngine: () => openEngine('wasm') })
      const ended = volunteer.run()
      await until('the run is over', () => inside.over, 60_000)
      volunteer.stop()
      await ended
      return { weights: inside.parameters.snapshot(), losses: inside.history.strategy.history, lost }
    } finally {
      volunteer?.stop()
      await coordinator.close()
    }
  }
  const [calm, killed] = [await weightsOf(false), await weightsOf(true)]
  expect(killed.lost).not.toBeNull()
  expect(killed.weights).toEqual(calm.weights)
  expect(killed.losses).toEqual(calm.losses)
}, 120_000)

describe('portions of L-BFGS [Y2]', () => {
  test('of any size and by any crowd are the same run', async () => {
    const alone = await lossesOf(1000, 1)
    expect(alone).toHaveLength(16)
    for (const [portionSize, volunteers] of [
      [70, 3],
      [25, 2],
    ] as const) {
      const losses = await lossesOf(portionSize, volunteers)
      expect(losses).toHaveLength(alone.length)
      losses.forEach((loss, i) => {
        expect(Math.abs(loss / alone[i] - 1)).toBeLessThan(1e-9)
      })
    }
  })
})

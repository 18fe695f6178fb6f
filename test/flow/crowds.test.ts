/** Two runs that train at once share the volunteers: whose crowd is larger gives some away, once. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Lease, Start } from '../../shared/protocol.ts'
import { SMALL, startCoordinator, type TestCoordinator, until } from '../support/coordinator.ts'
import { expectOk, SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

let coordinator: TestCoordinator
let volunteers: SyntheticVolunteer[]
beforeEach(async () => {
  coordinator = await startCoordinator()
  volunteers = []
})
afterEach(async () => {
  for (const volunteer of volunteers) volunteer.close()
  await coordinator.close()
})

const newRun = async (name: string) => (await coordinator.createRun({ ...SMALL, name })).run

async function join(count: number, run?: string): Promise<void> {
  for (let i = 0; i < count; i++) volunteers.push(await SyntheticVolunteer.join(coordinator.url, { run }))
}

const crowds = (...runs: string[]) => runs.map((run) => coordinator.runs.get(run)!.roster.crowd)

/** A lease of each, one after the other, from asking to acceptance; the runs they were of. */
async function round(): Promise<string[]> {
  const runs: string[] = []
  for (const volunteer of volunteers) {
    const { lease, start } = await volunteer.begin()
    expectOk('update', await volunteer.send(lease, start))
    runs.push(lease.run)
  }
  return runs
}

/**
 * As a real volunteer does: the next lease is at hand while one is computed, and its start comes with the acceptance.
 */
interface Busy {
  volunteer: SyntheticVolunteer
  lease: Lease
  start: Start
  next: Lease
}

async function begin(volunteer: SyntheticVolunteer): Promise<Busy> {
  const { lease, start } = await volunteer.begin()
  return { volunteer, lease, start, next: await volunteer.lease() }
}

async function goOn(busy: Busy): Promise<void> {
  const { volunteer, lease, start, next } = busy
  const payload = volunteer.payload(lease, start)
  const update = { ...volunteer.update(lease, start), payload, next: next.id }
  const verdict = expectOk('update', await volunteer.ask('update', update))
  if (verdict.verdict !== 'accepted' || verdict.start === undefined) throw new Error('the next lease was not started')
  await volunteer.model(next)
  Object.assign(busy, { lease: next, start: verdict.start, next: verdict.lease ?? (await volunteer.lease()) })
}

describe('the crowd', () => {
  test('of one run gives a second one its share at the next leases, and then nobody wavers', async () => {
    const a = await newRun('a')
    await join(5)
    expect(new Set(await round())).toEqual(new Set([a]))
    const b = await newRun('b')
    expect(crowds(a, b)).toEqual([5, 0])
    const first = await round()
    expect(crowds(a, b).sort()).toEqual([2, 3])
    expect(new Set(first)).toEqual(new Set([a, b]))
    for (let i = 0; i < 4; i++) expect(await round()).toEqual(first)

    // Two of the smaller crowd go: one of the others moves, once.
    const ofSmaller = () => {
      const [inA, inB] = crowds(a, b)
      return coordinator.runs.get(inA < inB ? a : b)!
    }
    for (const _ of [1, 2]) {
      const smaller = ofSmaller()
      const leaver = volunteers.find(({ welcome }) => coordinator.runs.runOf(welcome.volunteer) === smaller)!
      volunteers.splice(volunteers.indexOf(leaver), 1)
      const before = smaller.roster.crowd
      leaver.close()
      await until('the coordinator has noticed', () => smaller.roster.crowd === before - 1)
    }
    expect(crowds(a, b).sort()).toEqual([0, 3])
    const after = await round()
    expect(crowds(a, b).sort()).toEqual([1, 2])
    for (let i = 0; i < 4; i++) expect(await round()).toEqual(after)
  })

  test('is evened out while everybody computes, and no lease that is out is lost by it [L3]', async () => {
    const a = await newRun('a')
    await join(6)
    const busy = await Promise.all(volunteers.map(begin))
    const b = await newRun('b')
    const c = await newRun('c')
    // All at once: who moves is not decided by turns here.
    const seen: string[][] = []
    for (let i = 0; i < 6; i++) {
      await Promise.all(busy.map(goOn))
      expect(crowds(a, b, c)).toEqual([2, 2, 2])
      seen.push(busy.map(({ next }) => next.run))
    }
    expect(new Set(seen.map(String)).size, 'everybody stays where the first round put them').toBe(1)
    expect(busy.map(({ lease }) => lease.run).sort()).toEqual([a, a, b, b, c, c].sort())
    for (const { volunteer, lease, start } of busy) expectOk('update', await volunteer.send(lease, start))
    for (const run of [a, b, c]) expect(coordinator.runs.get(run)!.updatesRefused).toBe(0)
    const accepted = [a, b, c].map((run) => coordinator.runs.get(run)!.history.counts.updates)
    expect(accepted.reduce((sum, count) => sum + count)).toBe(6 * 6 + 6)
  })

  test('of a run that pauses goes to the others, and comes back in part when it trains again', async () => {
    const a = await newRun('a')
    const b = await newRun('b')
    await join(4)
    await round()
    expect(crowds(a, b)).toEqual([2, 2])
    await coordinator.api('POST', `/api/runs/${b}/pause`)
    expect(new Set(await round())).toEqual(new Set([a]))
    expect(crowds(a, b)).toEqual([4, 0])
    await coordinator.api('POST', `/api/runs/${b}/resume`)
    await round()
    expect(crowds(a, b)).toEqual([2, 2])
  })

  test('that asked for its run stays, however empty another one is', async () => {
    const a = await newRun('a')
    await join(3, a)
    const b = await newRun('b')
    for (let i = 0; i < 2; i++) expect(await round()).toEqual([a, a, a])
    expect(crowds(a, b)).toEqual([3, 0])
    await join(1)
    expect((await round()).at(-1)).toBe(b)
  })
})

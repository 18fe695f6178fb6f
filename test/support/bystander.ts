/**
 * What every test of bad input checks: an honest volunteer is in the middle of a lease while something bad is done, and
 * afterwards the parameters of every run have the bits they had, the honest one was not disturbed, and its update is
 * accepted.
 */
import { expect } from 'vitest'
import {
  CHUNK_BYTES,
  type EventName,
  REFUSALS,
  type Refusal,
  type RefusalCode,
  type RequestOf,
} from '../../shared/protocol.ts'
import { SMALL, startCoordinator, type TestCoordinator } from './coordinator.ts'
import { introduction, SyntheticVolunteer } from './synthetic-volunteer.ts'

export class Bystander {
  readonly coordinator: TestCoordinator
  readonly honest: SyntheticVolunteer
  /** Runs by what they are for; the honest one is on `plain`. */
  readonly runs: Record<string, string>
  private bad: SyntheticVolunteer | null = null

  private constructor(coordinator: TestCoordinator, honest: SyntheticVolunteer, runs: Record<string, string>) {
    this.coordinator = coordinator
    this.honest = honest
    this.runs = runs
  }

  /** A coordinator with a run `plain` and one more of each spec, which is laid over SMALL. */
  static async start(specs: Record<string, object> = {}): Promise<Bystander> {
    const coordinator = await startCoordinator()
    const runs: Record<string, string> = {}
    for (const [key, spec] of Object.entries({ plain: {}, ...specs })) {
      runs[key] = (await coordinator.createRun({ ...SMALL, ...spec, name: key })).run
    }
    const honest = await SyntheticVolunteer.join(coordinator.url, { run: runs.plain })
    return new Bystander(coordinator, honest, runs)
  }

  /** Somebody new on a run; the newcomer before is gone. */
  async newcomer(run = 'plain'): Promise<SyntheticVolunteer> {
    this.bad?.close()
    this.bad = await SyntheticVolunteer.join(this.coordinator.url, { run: this.runs[run] })
    return this.bad
  }

  /** Does something bad and checks that nothing came of it. */
  async harmless<T>(doing: () => Promise<T>): Promise<T> {
    const { coordinator, honest } = this
    const { lease, start } = await honest.begin()
    const bits = () => coordinator.runs.list().map(({ id }) => [id, coordinator.bits(id)] as const)
    const before = new Map(bits())
    try {
      const result = await doing()
      for (const [id, now] of bits()) {
        const then = before.get(id)
        if (then !== undefined) expect(now.equals(then), `the parameters of ${id} are as they were`).toBe(true)
      }
      expect(await honest.send(lease, start)).toMatchObject({ ok: true, verdict: 'accepted' })
      expect(honest.disconnects).toEqual([])
      expect(honest.refusals).toEqual([])
      return result
    } catch (error) {
      await honest.ask('giveBack', { lease: lease.id })
      throw error
    }
  }

  async close(): Promise<void> {
    this.honest.close()
    this.bad?.close()
    await this.coordinator.close()
  }
}

/** The refusal has this code, says what the sender should do next, and its message says all of this. */
export function expectRefusal(reply: unknown, code: RefusalCode, ...says: (string | RegExp)[]): void {
  expect(reply).toMatchObject({ ok: false, code, next: REFUSALS[code] })
  const { message } = reply as Refusal
  for (const words of says) expect(message).toMatch(words)
  expect(message.length, 'a message for a person').toBeLessThan(500)
}

/** A message of each event that its schema takes. */
export const VALID: { [E in EventName]: RequestOf<E> } = {
  hello: introduction(),
  lease: {},
  download: { blob: { hash: '0'.repeat(64) }, offset: 0, length: CHUNK_BYTES },
  start: { lease: 'nobody.knows.1' },
  update: {
    lease: 'nobody.knows.1',
    version: 0,
    minibatches: 1,
    examples: 10,
    lossSum: 1,
    correct: 1,
    computeMs: 1,
    size: 2 * CHUNK_BYTES,
  },
  chunk: { lease: 'nobody.knows.1', offset: 0, bytes: new Uint8Array(1) },
  finish: { lease: 'nobody.knows.1' },
  giveBack: { lease: 'nobody.knows.1' },
}

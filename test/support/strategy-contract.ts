/**
 * What every Strategy promises, whatever it does: every example counts once an epoch, the journal's entries come to the
 * same bits again from the beginning and from every checkpoint, and whoever vanishes, whenever that is, costs no more
 * than the leases it held.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseRunSpec, type RunSpec } from '../../shared/run-spec.ts'
import { takesWholePasses } from '../../shared/whole-passes.ts'
import { MadeUpCrowd, replayed, traceOf } from './made-up-crowd.ts'

const VOLUNTEERS = ['ann', 'bob', 'cid', 'dot']
/** Nobody needs so many steps. */
const STEPS_MAX = 20_000

/** How often, of a hundred steps, something other than work happens. */
interface Troubles {
  readonly leave: number
  readonly lose: number
  readonly crash: number
}

const calm: Troubles = { leave: 0, lose: 0, crash: 0 }
const rough: Troubles = { leave: 4, lose: 4, crash: 1 }

export function strategyContract(name: string, written: object): void {
  const spec = specOf(written)
  const cutsOff = spec.strategy.name === 'downpour' && spec.strategy.maxStaleness < VOLUNTEERS.length

  describe(`the strategy contract: ${name}`, () => {
    it('[E1] every example counts once an epoch, whoever leaves, loses leases or comes back, and crashes', () => {
      property(60, (seed) => {
        const crowd = new MadeUpCrowd(spec, seed)
        work(crowd, rough)
        accounted(crowd)
      })
    })

    it('[J2] the same entries give the same bits: from the beginning at every one of them, and from every checkpoint', () => {
      for (const seed of [1, 2, 3]) {
        const { entries, saved, traces, history } = work(new MadeUpCrowd(spec, seed), seed === 1 ? calm : rough)
        const seen: string[] = []
        replayed(spec, entries, undefined, seen)
        expect(seen).toEqual(traces)
        expect(saved.length).toBeGreaterThan(2)
        for (const from of saved) {
          // The checkpoint as it stands, and what follows it.
          expect(traceOf(replayed(spec, entries.slice(0, from.entries), from))).toBe(traces[from.entries - 1])
          const again: string[] = []
          replayed(spec, entries, from, again)
          expect(again).toEqual(traces.slice(from.entries))
        }
        expect(traces.at(-1)).toBe(traceOf(history))
      }
    })

    it('[J4] is quiescent at the end, and at the beginning', () => {
      expect(new MadeUpCrowd(spec, 1).history.strategy.quiescent).toBe(true)
      expect(work(new MadeUpCrowd(spec, 1), calm).history.strategy.quiescent).toBe(true)
    })

    it('a volunteer that vanishes, at whatever point, costs its own leases and nothing else', () => {
      const { steps } = work(new MadeUpCrowd(spec, 5), calm)
      for (let at = 0; at < steps; at++) {
        const crowd = new MadeUpCrowd(spec, 5)
        const victim = VOLUNTEERS[at % VOLUNTEERS.length]
        work(crowd, calm, { victim, at })
        accounted(crowd)
        // A strategy that gives backups or cuts off what is stale lets work come to nothing by itself.
        const lost = crowd.lost.filter(({ why }) => why !== 'backup' && !(cutsOff && why === 'stale'))
        expect(lost.filter(({ who }) => who !== victim)).toEqual([])
        expect(lost.length).toBeLessThanOrEqual(2)
      }
    })

    it('is taken up again after a crash at any point, with the bits it had, and ends as it should', () => {
      const { steps } = work(new MadeUpCrowd(spec, 6), calm)
      for (let at = 0; at < steps; at += 1 + Math.floor(steps / 80)) {
        const crowd = new MadeUpCrowd(spec, 6)
        work(crowd, calm, { crash: true, at })
        accounted(crowd)
      }
    })

    it('nobody who works waits for ever for who sleeps', () => {
      property(20, (seed) => {
        const crowd = new MadeUpCrowd(spec, seed)
        const awake = VOLUNTEERS.slice(0, 2)
        for (let i = 0; i < 30 && !crowd.history.trained; i++) step(crowd, VOLUNTEERS, calm)
        for (const who of VOLUNTEERS.slice(2)) crowd.expire(who)
        finish(crowd, awake, calm)
        accounted(crowd)
      })
    })
  })
}

function specOf(written: object): RunSpec {
  const ownSteps = takesWholePasses((written as { strategy: { name: string } }).strategy)
  const parsed = parseRunSpec({
    dataset: { name: 'mnist', train: 31, test: 10 },
    model: { template: 'softmax' },
    ...(ownSteps ? {} : { updateRule: { name: 'sgd', rate: 0.05 } }),
    codec: { up: 'f32' },
    stop: { epochs: 2 },
    checkpointEvery: 1,
    ...written,
  })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  return parsed.spec
}

function property(numRuns: number, holds: (seed: number) => void): void {
  fc.assert(fc.property(fc.nat(), holds), { numRuns })
}

/** What happens at one step of a run. */
type Event = { readonly at: number } & ({ readonly victim: string } | { readonly crash: true })

/** Works until training is complete. A victim leaves for good, and what it computes expires some time later. */
function work(crowd: MadeUpCrowd, troubles: Troubles, event?: Event): MadeUpCrowd {
  if (event === undefined) return finish(crowd, VOLUNTEERS, troubles)
  while (crowd.steps < event.at && !crowd.history.trained) step(crowd, VOLUNTEERS, troubles)
  if ('crash' in event) {
    const before = traceOf(crowd.history)
    crowd.crash()
    expect(traceOf(crowd.history)).toBe(before)
    return finish(crowd, VOLUNTEERS, troubles)
  }
  const others = VOLUNTEERS.filter((who) => who !== event.victim)
  crowd.leave(event.victim)
  for (let i = 0; i < 25 && !crowd.history.trained; i++) step(crowd, others, troubles)
  crowd.expire(event.victim)
  return finish(crowd, others, troubles)
}

function finish(crowd: MadeUpCrowd, volunteers: readonly string[], troubles: Troubles): MadeUpCrowd {
  while (!crowd.history.trained) {
    if (crowd.steps > STEPS_MAX) throw new Error(`training does not end: ${JSON.stringify(crowd.accounts())}`)
    step(crowd, volunteers, troubles)
  }
  return crowd
}

/** One volunteer does something. */
function step(crowd: MadeUpCrowd, volunteers: readonly string[], { leave, lose, crash }: Troubles): void {
  crowd.steps++
  const rank = crowd.draw(volunteers.length)
  const who = volunteers[rank]
  const what = crowd.draw(100)
  const held = crowd.of(who)
  if (what < leave) crowd.leave(who)
  else if (what < leave + lose) {
    if (held.length > 0) crowd.lose(held[crowd.draw(held.length)], 'given back')
  } else if (what < leave + lose + crash) crowd.crash()
  else if (what < 50) crowd.ask(who, rank)
  else if (!crowd.start(who) && !crowd.submit(who)) crowd.ask(who, rank)
}

/** All that is complete was counted, all that was counted is said to be, and nothing that was planned is missing. */
function accounted(crowd: MadeUpCrowd): void {
  const { epochs, strategy } = crowd.history
  const accounts = crowd.accounts()
  for (const { epoch, counted, said } of accounts) {
    expect([epoch, counted]).toEqual([epoch, said])
    expect(counted).toBe(epochs.examples)
  }
  if (strategy.ended === null) expect(accounts).toHaveLength(crowd.spec.stop.epochs)
}

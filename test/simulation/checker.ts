/**
 * What must hold, looked at after every step. Beside the coordinator it keeps a shadow of every run: a fold of its
 * own, from entry 0, over what the journal reads back, without a checkpoint ever; and its own count of examples.
 */

import type { Entry } from '../../coordinator/journal/journal.ts'
import { History, type UpdateData } from '../../coordinator/run/history.ts'
import type { HeldLease } from '../../coordinator/run/leases.ts'
import type { Run } from '../../coordinator/run/run.ts'
import type { Runs } from '../../coordinator/run/runs.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { Lease, Refusal, Segment, Start, UpdateRequest, Verdict } from '../../shared/protocol.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { trainedAlone } from './alone.ts'
import type { Disk } from './disk.ts'
import { emptyDataset, SHARD_EXAMPLES } from './examples.ts'

export class Violation extends Error {
  readonly rule: string
  constructor(rule: string, message: string) {
    super(`${rule}: ${message}`)
    this.rule = rule
  }
}

const LEASES_PER_VOLUNTEER = 2
/** The coordinator looks for overdue leases once a second. */
const TICK_MS = 1_000

/** What no honest volunteer here ever returns, by far. */
const NORM_MAX = 1e4
const LOSS_MAX = 1e41
/** Nobody's lease, however slow it is or says it was, is out for longer. */
const LEASE_MAX_MS = 2 * 3_600_000

interface Shadow {
  readonly spec: RunSpec
  readonly history: History
  /** Every version's encoded bytes. */
  readonly versions: Uint8Array[]
  /** Per epoch, how often each example counted. */
  readonly counted: Map<number, Uint8Array>
  examples: number
  /** Newest version that somebody was told of. */
  shown: number
  comparedAt: number
}

export class Checker {
  private readonly shadows = new Map<string, Shadow>()
  /** Of every lease ever granted: what it holds. */
  private readonly segments = new Map<string, readonly Segment[]>()
  private readonly owners = new Map<string, string>()
  private readonly journalled = new Map<string, number>()
  private readonly accepted = new Set<string>()
  private readonly starts = new Map<string, Start>()

  // ---- what happens ---------------------------------------------------------------------------------------------

  /** The journal has these, read back from it; before the coordinator folds them in. */
  appended(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.kind === 'created') this.created(entry)
      const shadow = this.shadow(entry.run)
      if (entry.kind === 'update') {
        const data = entry.data as UpdateData
        this.counts(shadow, data)
        const norm = Math.sqrt(shadow.history.parameters.sumSquares(shadow.spec.codec.up, entry.payload!))
        must('T2', norm <= NORM_MAX * data.minibatches, `an update of norm ${norm} was accepted`)
      }
      shadow.history.fold(entry)
      const { version } = shadow.history.parameters
      if (version === shadow.versions.length) shadow.versions.push(parametersOf(shadow.history))
    }
  }

  private created({ run, data }: Entry): void {
    const { spec } = data as { spec: RunSpec }
    const history = new History(spec, emptyDataset(spec.dataset))
    const versions = [parametersOf(history)]
    this.shadows.set(run, {
      spec,
      history,
      versions,
      counted: new Map(),
      examples: 0,
      shown: 0,
      comparedAt: -1,
    })
  }

  private counts(shadow: Shadow, data: UpdateData): void {
    const { history, counted } = shadow
    const times = (this.journalled.get(data.lease) ?? 0) + 1
    this.journalled.set(data.lease, times)
    must('L3', times === 1, `lease ${data.lease} is in the journal ${times} times`)
    const staleness = history.parameters.version - data.version
    const { maxStaleness } = history.strategy
    must('S1', staleness >= 0 && staleness <= maxStaleness, `staleness ${staleness}, at most ${maxStaleness} is taken`)
    const segments = this.segments.get(data.lease)
    must('J1', segments !== undefined, `lease ${data.lease} is journalled and was never granted`)
    let left = data.examples
    for (const { shardIndex, epoch, from, to } of segments!) {
      must('E1', epoch - history.epochs.current <= 1 && epoch >= history.epochs.current, `epoch ${epoch} is not open`)
      const seen = counted.get(epoch) ?? new Uint8Array(history.epochs.examples)
      counted.set(epoch, seen)
      for (let i = from; i < to && left > 0; i++, left--) {
        const example = shardIndex * SHARD_EXAMPLES + i
        must('E1', ++seen[example] === 1, `example ${example} counts ${seen[example]} times in epoch ${epoch}`)
      }
    }
    must('E1', left === 0, `lease ${data.lease} counts ${left} examples more than it holds`)
    shadow.examples += data.examples
  }

  granted(lease: Lease, volunteer: string): void {
    // The same lease may be told again to a volunteer that did not hear of it; another one never has its name.
    const before = this.segments.get(lease.id)
    const same = before === undefined || JSON.stringify(before) === JSON.stringify(lease.segments)
    must('L7', same, `lease ${lease.id} is granted twice`)
    this.segments.set(lease.id, lease.segments)
    this.owned(lease.id, volunteer)
  }

  started(start: Start, volunteer: string): void {
    this.owned(start.lease, volunteer)
    const before = this.starts.get(start.lease)
    const same =
      before === undefined ||
      (before.version === start.version && before.localRate === start.localRate && before.continues === start.continues)
    must('L2', same, `lease ${start.lease} is bound to ${before?.version}, then to ${start.version}`)
    this.starts.set(start.lease, start)
    this.show(start.lease, start.version)
  }

  answered(update: UpdateRequest, verdict: Verdict | Refusal, volunteer: string): void {
    if (!verdict.ok || verdict.verdict !== 'accepted') return
    const { lease } = update
    must('L3', !this.accepted.has(lease), `lease ${lease} is accepted twice`)
    this.accepted.add(lease)
    this.owned(lease, volunteer)
    if (update.size > 0) must('J1', this.journalled.get(lease) === 1, `${lease} is acknowledged and not in the journal`)
    this.show(lease, verdict.version)
    if (verdict.start !== undefined) this.started(verdict.start, volunteer)
    if (verdict.lease !== undefined) this.granted(verdict.lease, volunteer)
  }

  gaveBack(lease: string, volunteer: string): void {
    this.owned(lease, volunteer)
  }

  /** A lease is its volunteer's, from the first word of it to the last. */
  private owned(lease: string, volunteer: string): void {
    const owner = this.owners.get(lease) ?? volunteer
    this.owners.set(lease, owner)
    must('T1', owner === volunteer, `${volunteer} disposes of ${lease}, which is ${owner}'s`)
  }

  private show(lease: string, version: number): void {
    const shadow = this.shadow(lease.split('.')[0])
    must('V1', version < shadow.versions.length, `version ${version} is shown before it is durable`)
    shadow.shown = Math.max(shadow.shown, version)
  }

  downloaded(run: string, version: number, bytes: Uint8Array): void {
    const expected = this.shadow(run).versions[version]
    must('V1', expected !== undefined && equal(bytes, expected), `run ${run}: version ${version} is other bytes now`)
  }

  /** The coordinator was started anew and has read its journal. */
  recovered(runs: Runs, disk: Disk): void {
    must('J2', runs.list().length === this.shadows.size, `${runs.list().length} of ${this.shadows.size} runs came back`)
    for (const run of runs.list()) {
      this.sameBits(run)
      if (run.spec.journal === 'everything') this.freshFold(run, disk)
    }
  }

  /** Overdue leases were just taken back. */
  ticked(runs: Runs, now: number): void {
    for (const { id, leases, settling } of runs.list().map((run) => ({ id: run.id, ...run.inspect() }))) {
      for (const lease of leases) {
        must('L5', lease.deadline - now < LEASE_MAX_MS, `${lease.id} is out until ${lease.deadline}`)
        must('L5', lease.deadline > now - TICK_MS || settling.has(lease.id), `${lease.id} of ${id} is overdue`)
      }
    }
  }

  committed(runs: Runs): void {
    for (const run of runs.list()) must('J3', run.inspect().settling.size === 0, `${run.id} is still settling`)
  }

  // ---- after every step -----------------------------------------------------------------------------------------

  step(runs: Runs): void {
    const holds = new Map<string, number>()
    for (const run of runs.list()) {
      const { leases } = run.inspect()
      for (const { volunteer } of leases) holds.set(volunteer, (holds.get(volunteer) ?? 0) + 1)
      this.checkEpochs(run, leases)
      this.checkVersions(run, leases)
    }
    for (const [volunteer, held] of holds) must('L6', held <= LEASES_PER_VOLUNTEER, `${volunteer} holds ${held} leases`)
  }

  /** Free, out and done tile every open epoch; what is accepted is what is done. */
  private checkEpochs(run: Run, leases: readonly HeldLease[]): void {
    const { epochs, counts } = run.history
    const shadow = this.shadow(run.id)
    const open = epochs.inspect()
    let done = epochs.current * epochs.examples
    const out = leases.flatMap((lease) => (lease.kind === 'gradient' ? lease.stretches : []))
    for (const stretch of out) {
      must(
        'E1',
        open.some(({ epoch }) => epoch === stretch.epoch),
        `epoch ${stretch.epoch} is out and not open`,
      )
    }
    open.forEach((at, i) => {
      must('E3', at.epoch === epochs.current + i, `epoch ${at.epoch} is open, ${epochs.current} the oldest`)
      const owned = [...at.free, ...at.done, ...out.filter(({ epoch }) => epoch === at.epoch)]
      owned.sort((a, b) => a.from - b.from)
      let next = 0
      for (const { from, to } of owned) {
        must(
          'E1',
          from === next,
          `epoch ${at.epoch} of ${run.id}: positions ${Math.min(next, from)}..${Math.max(next, from)} are ${from < next ? 'twice' : 'nowhere'}`,
        )
        next = to
      }
      must('E1', next === epochs.examples, `epoch ${at.epoch} of ${run.id}: positions from ${next} on are nowhere`)
      done += at.done.reduce((sum, { from, to }) => sum + to - from, 0)
    })
    must(
      'E1',
      counts.examples === done && shadow.examples === done,
      `${counts.examples} examples accepted, ${shadow.examples} journalled, ${done} done`,
    )
    for (const [epoch, seen] of shadow.counted) {
      if (epoch >= epochs.current) continue
      must(
        'E1',
        seen.every((times) => times === 1),
        `epoch ${epoch} is complete and lacks examples`,
      )
      shadow.counted.delete(epoch)
    }
  }

  private checkVersions(run: Run, leases: readonly HeldLease[]): void {
    const shadow = this.shadow(run.id)
    const { version } = run.history.parameters
    must('V1', version >= shadow.shown, `version ${version} after ${shadow.shown} was shown`)
    if (shadow.comparedAt !== version) this.sameBits(run)
    shadow.comparedAt = version
    for (const lease of leases) {
      if (lease.kind !== 'gradient' || lease.state !== 'started' || lease.binding.version >= version) continue
      const bytes = run.history.versions.bytes(lease.binding.version)
      if (bytes !== null) this.downloaded(run.id, lease.binding.version, bytes)
    }
  }

  /** The live run (or one that just recovered) is what the shadow is. */
  private sameBits(run: Run): void {
    same('J2', run.history, this.shadow(run.id).history, `run ${run.id}`)
  }

  private freshFold(run: Run, disk: Disk): void {
    const fresh = new History(run.spec, emptyDataset(run.spec.dataset))
    for (const entry of disk.read(run.id, 0)) fresh.fold(entry)
    same('J2', run.history, fresh, `run ${run.id} against a fold from entry 0`)
  }

  /** All is done: every planned example counted, nothing is out, and the journal says the same. */
  ended(runs: Runs, disk: Disk): void {
    for (const run of runs.list()) {
      this.sameBits(run)
      if (run.spec.journal === 'everything') this.freshFold(run, disk)
      const { counts, epochs } = run.history
      if (run.trained && run.spec.strategy.name === 'synchronous') this.asAlone(run)
      if (run.trained) must('E1', counts.examples === epochs.examples * epochs.planned, `${counts.examples} examples`)
      const tested = run.history.series.test.at(-1)
      if (run.history.parameters.version > 0 && run.state === 'finished') {
        must(
          'tested',
          tested?.version === run.history.parameters.version,
          `run ${run.id} ended with its model not tested`,
        )
      }
      const { examples } = emptyDataset(run.spec.dataset).test
      const accuracy = Math.ceil(examples / 2) / examples
      for (const { loss } of run.history.series.train)
        must('T2', Math.abs(loss) < LOSS_MAX, `a loss of ${loss} was believed`)
      for (const point of run.history.series.test) {
        const right = point.accuracy === accuracy && point.loss === 1
        must(
          'evaluation',
          right,
          `${run.id}: test of version ${point.version} is ${JSON.stringify(point)}, not ${accuracy}`,
        )
      }
    }
  }

  private asAlone(run: Run): void {
    const alone = trainedAlone(run.spec).parameters.snapshot()
    run.history.parameters.snapshot().forEach((value, i) => {
      must(
        'Y1',
        Object.is(value, alone[i]),
        `${run.id}: parameter ${i} is ${value}, one volunteer alone has ${alone[i]}`,
      )
    })
  }

  // ---- a refused update changes nothing -------------------------------------------------------------------------

  /** Everything that an update to `lease` may not change when it is refused. */
  fingerprint(runs: Runs, lease: string, volunteer: string, disk: Disk): string {
    const held = runs.list().map((run) => {
      const { leases, settling } = run.inspect()
      const others = leases.filter(({ id, volunteer: owner }) => id !== lease || owner !== volunteer)
      const own = leases.find(({ id, volunteer: owner }) => id === lease && owner === volunteer)
      // The refused lease's own positions may become free: they are counted as free before.
      const ownStretches = own === undefined || own.kind !== 'gradient' ? [] : own.stretches
      const { epochs, counts, parameters } = run.history
      const open = epochs.inspect().map(({ epoch, free, done }) => {
        const freeSize = [...free, ...ownStretches.filter((stretch) => stretch.epoch === epoch)].reduce(
          (sum, { from, to }) => sum + to - from,
          0,
        )
        return [epoch, freeSize, done]
      })
      return [
        run.id,
        others,
        [...settling].filter((id) => id !== lease),
        epochs.current,
        open,
        counts,
        parameters.version,
        [...parameters.snapshot()],
      ]
    })
    return JSON.stringify([disk.length, held])
  }

  unchanged(before: string, after: string, code: string): void {
    if (before === after) return
    let at = 0
    while (before[at] === after[at]) at++
    throw new Violation(
      'T1',
      `an update refused as ${code} changed …${before.slice(at - 60, at + 60)}… to …${after.slice(at - 60, at + 60)}…`,
    )
  }

  private shadow(run: string): Shadow {
    const shadow = this.shadows.get(run)
    if (shadow === undefined) throw new Violation('J1', `run ${run} is not in the journal`)
    return shadow
  }
}

function must(rule: string, holds: boolean, message: string): void {
  if (!holds) throw new Violation(rule, message)
}

function same(rule: string, history: History, expected: History, what: string): void {
  const [a, b] = [history.parameters, expected.parameters]
  must(rule, a.version === b.version, `${what} is at version ${a.version}, the journal says ${b.version}`)
  const others = new Map(b.checkpoint().map((vector) => [`${vector.name}/${vector.range}`, vector.values]))
  for (const { name, range, values } of a.checkpoint()) {
    const other = others.get(`${name}/${range}`)!
    for (let i = 0; i < values.length; i++) {
      must(
        rule,
        Object.is(values[i], other[i]),
        `${what}, version ${a.version}: ${name}[${i}] is ${values[i]}, the journal says ${other[i]}`,
      )
    }
  }
  const [left, right] = [told(history), told(expected)]
  for (const key of Object.keys(left)) {
    must(rule, left[key] === right[key], `${what}: ${key} is ${left[key]}, the journal says ${right[key]}`)
  }
}

/** What beside the vectors must be the same. An epoch that is open and untouched is the same as one not yet opened. */
function told({ counts, epochs, strategy, series }: History): Record<string, string> {
  const { complete, done } = epochs.toJSON()
  while (done.length > 0 && done.at(-1)!.length === 0) done.pop()
  return {
    counts: JSON.stringify(counts),
    epochs: JSON.stringify({ complete, done }),
    strategy: JSON.stringify(strategy),
    series: JSON.stringify(series),
  }
}

function parametersOf(history: History): Uint8Array {
  return encodeVector(codecs[history.spec.codec.down], history.parameters.snapshot())
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}

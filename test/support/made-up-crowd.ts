/**
 * A made-up crowd on one run's history: volunteers that ask, begin, return, lose leases, leave, come back and see the
 * coordinator crash, in an order drawn from a seed. It stands where run.ts stands, with none of its clocks: what it
 * journals is what a run would, and it counts every example itself.
 *
 * Every example e is a point t_e, drawn from the seed, with the loss ½‖w − t_e‖² and the gradient w − t_e. So losses
 * and gradients are a function of the parameters and the examples, as a search needs them, and training converges.
 */
import type { Checkpoint, Entry } from '../../coordinator/journal/journal.ts'
import { History, type UpdateData } from '../../coordinator/run/history.ts'
import { sampled } from '../../coordinator/run/shards.ts'
import { lengthOf, type Stretch, split } from '../../coordinator/strategies/epochs.ts'
import { type Binding, type Outstanding, PLAIN, type Work } from '../../coordinator/strategies/strategy.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { Random } from '../../shared/random.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'

interface Lease {
  readonly id: string
  readonly who: string
  readonly work: Work
  readonly binding: Binding | null
}

/** A checkpoint and how many entries are folded into it. */
interface Saved {
  readonly checkpoint: Checkpoint
  readonly entries: number
}

const LEASES_PER_VOLUNTEER = 2
/** Who holds nothing and did not ask for so many steps is idle. */
const IDLE_STEPS = 40
const NOW = Date.UTC(2026, 0, 1)

export class MadeUpCrowd {
  readonly spec: RunSpec
  readonly entries: Entry[] = []
  readonly saved: Saved[] = []
  /** What the history was after each entry. */
  readonly traces: string[] = []
  history: History
  leases: Lease[] = []
  /** Leases that came to nothing, and whose they were. */
  readonly lost: { readonly who: string; readonly why: string }[] = []
  steps = 0
  private readonly dataset
  private readonly random: Random
  private draws = 0
  private granted = 0
  private readonly asked = new Map<string, number>()
  /** The versions of this process, and where each lease's replica was when it ended. */
  private versions = new Map<number, Float32Array>()
  private readonly replicas = new Map<string, Float32Array>()
  private readonly counted = new Map<number, Uint8Array>()

  constructor(spec: RunSpec, seed: number) {
    this.spec = spec
    this.dataset = emptyDataset(spec.dataset)
    this.random = new Random(seed)
    this.history = new History(spec, this.dataset)
    this.publish()
    this.journal('state', { state: 'running', reason: null }, null)
  }

  /** A whole number below n. */
  draw(n: number): number {
    return Math.floor(this.random.uniform(this.draws++) * n)
  }

  of(who: string): Lease[] {
    return this.leases.filter((lease) => lease.who === who)
  }

  // ---- what volunteers do -----------------------------------------------------------------------------------------

  ask(volunteer: string, rank: number): boolean {
    this.asked.set(volunteer, this.steps)
    if (this.history.trained || this.of(volunteer).length >= LEASES_PER_VOLUNTEER) return false
    const { strategy, epochs } = this.history
    const draft = strategy.next({
      ...{ volunteer, rank, epochs },
      fitting: 1 + this.draw(12),
      out: this.outstanding(),
      mayTake: () => true,
      idle: (who) => this.of(who).length === 0 && this.steps - (this.asked.get(who) ?? 0) > IDLE_STEPS,
    })
    if ('wait' in draft) return false
    const lease = { id: `l${this.granted++}`, who: volunteer, work: { ...PLAIN, ...draft }, binding: null }
    this.isFreeOrBackup(lease)
    this.leases.push(lease)
    return true
  }

  start(who: string): boolean {
    const lease = this.of(who).find(({ binding }) => binding === null)
    if (lease === undefined || this.computed(who) !== undefined) return false
    const { strategy, parameters, stage } = this.history
    const binding = strategy.bind(lease.id, who, parameters.version, stage.rate)
    this.leases = this.leases.map((other) => (other === lease ? { ...lease, binding } : other))
    return true
  }

  /** Returns what it computes: all of it, or as many minibatches as fit into a made-up time box. */
  submit(who: string): boolean {
    const lease = this.computed(who)
    if (lease === undefined) return false
    const { strategy, parameters, epochs } = this.history
    const { work, binding } = lease
    if (parameters.version - binding!.version > strategy.maxStaleness) {
      this.lose(lease, 'stale')
      return true
    }
    const minibatches = Math.ceil(lengthOf(work.stretches) / work.batchSize)
    const done = work.timeBoxed ? 1 + this.draw(minibatches) : minibatches
    const { head, tail } = split(work.stretches, done * work.batchSize)
    this.leases = this.leases.filter((other) => other !== lease)
    for (const copy of this.copies(lease)) {
      this.leases = this.leases.filter((other) => other !== copy)
      this.lost.push({ who: copy.who, why: 'backup' })
    }
    epochs.giveBack(tail)
    const { values, data } = this.compute(lease, head)
    this.count(head)
    this.journal('update', data, encodeVector(codecs[this.spec.codec.up], values))
    return true
  }

  /** The lease comes to nothing: given back, expired or refused. */
  lose(lease: Lease, why: string): void {
    this.leases = this.leases.filter((other) => other !== lease)
    if (this.copies(lease).length === 0) this.history.epochs.giveBack(lease.work.stretches)
    this.history.strategy.lost(lease.id, lease.who)
    this.lost.push({ who: lease.who, why })
  }

  /** Its connection ends; what it computes stays out. */
  leave(who: string): void {
    for (const lease of this.of(who)) if (lease.binding === null) this.lose(lease, 'left')
    this.history.strategy.left(who)
  }

  expire(who: string): void {
    for (const lease of this.of(who)) this.lose(lease, 'expired')
  }

  /** kill -9: what was out is forgotten, the rest is folded in again from the newest checkpoint. */
  crash(): void {
    this.leases = []
    this.replicas.clear()
    const saved = this.saved.at(-1)
    this.history = replayed(this.spec, this.entries, saved)
    // Nobody is bound to a version of the process that is gone, and none of them has another meaning now.
    this.versions = new Map([...this.versions].filter(([version]) => version < this.history.parameters.version))
    this.publish()
  }

  // ---- the run's part ---------------------------------------------------------------------------------------------

  private journal(kind: string, data: unknown, payload: Uint8Array | null): void {
    const seq = this.entries.length + 1
    const entry: Entry = { seq, run: 'r', at: NOW + 1000 * seq, kind, data, payload, pruned: false }
    this.entries.push(entry)
    this.history.fold(entry)
    this.traces.push(traceOf(this.history))
    this.publish()
    const checkpoint = this.history.checkpoint('r')
    if (checkpoint === null) return
    const vectors = checkpoint.vectors.map((vector) => ({ ...vector, values: vector.values.slice() }))
    this.saved.push({ checkpoint: { ...checkpoint, vectors }, entries: this.entries.length })
  }

  private publish(): void {
    const { parameters } = this.history
    if (!this.versions.has(parameters.version)) this.versions.set(parameters.version, parameters.snapshot())
  }

  private computed(who: string): Lease | undefined {
    return this.of(who).find(({ binding }) => binding !== null)
  }

  private outstanding(): Outstanding[] {
    const found = new Map<string, { stretches: readonly Stretch[]; volunteers: string[] }>()
    for (const { who, work } of this.leases) {
      const known = found.get(beginning(work))
      if (known === undefined) found.set(beginning(work), { stretches: work.stretches, volunteers: [who] })
      else known.volunteers.push(who)
    }
    return [...found.values()]
  }

  private copies({ id, work }: Lease): Lease[] {
    return this.leases.filter((other) => other.id !== id && beginning(other.work) === beginning(work))
  }

  /** Nothing is handed out twice that is not a backup: of all of one portion, which is done whole, by somebody else. */
  private isFreeOrBackup(lease: Lease): void {
    const others = this.copies(lease)
    if (others.length === 0) return this.isFree(lease.work.stretches)
    const { who, work } = lease
    const same = others.every((other) => JSON.stringify(other.work.stretches) === JSON.stringify(work.stretches))
    if (work.timeBoxed || !same) throw new Error(`${beginning(work)} is out already, and this is no backup of it`)
    if (others.some((other) => other.who === who)) throw new Error(`${who} is to back up what it computes itself`)
  }

  private isFree(stretches: readonly Stretch[]): void {
    for (const { epoch, from, to } of stretches) {
      for (const { work } of this.leases) {
        for (const other of work.stretches) {
          if (other.epoch === epoch && other.from < to && from < other.to) throw new Error(`${from} is out already`)
        }
      }
      const seen = this.counted.get(epoch)
      for (let i = from; i < to; i++) if (seen?.[i]) throw new Error(`${i} of epoch ${epoch} is done already`)
    }
  }

  private count(stretches: readonly Stretch[]): void {
    for (const { epoch, from, to } of stretches) {
      const seen = this.counted.get(epoch) ?? new Uint8Array(this.dataset.train.examples)
      this.counted.set(epoch, seen)
      for (let i = from; i < to; i++) if (++seen[i] > 1) throw new Error(`${i} of epoch ${epoch} counts twice`)
    }
  }

  /** Of every epoch that the run has under way or behind it, the examples counted, by its account and by this one. */
  accounts(): { epoch: number; counted: number; said: number }[] {
    const { epochs } = this.history
    const open = epochs.inspect()
    const last = Math.max(-1, ...this.counted.keys(), ...open.map(({ epoch }) => epoch))
    return Array.from({ length: last + 1 }, (_, epoch) => {
      const done = open.find((other) => other.epoch === epoch)?.done ?? []
      const said = epoch < epochs.current ? epochs.examples : done.reduce((sum, { from, to }) => sum + to - from, 0)
      return { epoch, counted: this.counted.get(epoch)?.reduce((sum, times) => sum + times, 0) ?? 0, said }
    })
  }

  private compute({ id, who, work, binding }: Lease, stretches: Stretch[]): { values: Float32Array; data: UpdateData } {
    const { batchSize, fraction = 1, reduce = 'mean' } = work
    const { version, localRate, continues } = binding!
    const from = continues === null ? this.versions.get(version) : this.replicas.get(continues)
    if (from === undefined) throw new Error(`${id} begins at what is not there: ${version}, ${continues}`)
    const weights = from.slice()
    const sum = new Float64Array(weights.length)
    const rows = stretches.flatMap(({ epoch, from, to }) =>
      Array.from({ length: to - from }, (_, i) => ({ epoch, at: from + i })),
    )
    let [examples, lossSum] = [0, 0]
    for (let first = 0; first < rows.length; first += batchSize) {
      const batch = rows.slice(first, first + batchSize).filter((row) => this.isTaken(row, fraction))
      const gradient = new Float64Array(weights.length)
      for (const { at } of batch) lossSum += this.differentiate(weights, at, gradient)
      const share = reduce === 'mean' ? 1 / Math.max(1, batch.length) : 1
      for (let i = 0; i < sum.length; i++) {
        sum[i] += share * gradient[i]
        weights[i] -= localRate * share * gradient[i]
      }
      examples += batch.length
    }
    this.replicas.set(id, weights)
    const minibatches = Math.ceil(rows.length / batchSize)
    const counts = { minibatches, examples, lossSum, correct: 0, computeMs: 1, volunteers: 1 }
    return { values: Float32Array.from(sum), data: { lease: id, volunteer: who, version, stretches, ...counts } }
  }

  private isTaken({ epoch, at }: { epoch: number; at: number }, fraction: number): boolean {
    return sampled(this.dataset.train, this.spec.seed, epoch, fraction, { from: at, to: at + 1 }) === 1
  }

  /** Adds the gradient at example `at` to `gradient` and returns its loss. */
  private differentiate(weights: Float32Array, at: number, gradient: Float64Array): number {
    const point = new Random(this.spec.seed, 77, at)
    let loss = 0
    for (let i = 0; i < weights.length; i++) {
      const error = weights[i] - point.normal(i)
      gradient[i] += error
      loss += 0.5 * error * error
    }
    return loss
  }
}

/** What the entries come to, from the beginning or from a checkpoint on. */
export function replayed(spec: RunSpec, entries: readonly Entry[], saved?: Saved, seen?: string[]): History {
  // As a journal would, it gives a state of its own to each who reads it.
  const checkpoint = saved && { ...saved.checkpoint, state: structuredClone(saved.checkpoint.state) }
  const history = new History(spec, emptyDataset(spec.dataset), checkpoint)
  for (const entry of entries.slice(saved?.entries ?? 0)) {
    history.fold(entry)
    seen?.push(traceOf(history))
  }
  return history
}

/** Everything durable, to compare: two that are the same text have the same bits. */
export function traceOf({ counts, epochs, strategy, parameters, stage }: History): string {
  const bits = new Uint32Array(parameters.snapshot().buffer)
  // An epoch that was opened, with nothing done in it, is not durable.
  const done = epochs.toJSON().done.filter((_, i, all) => all.slice(i).some(({ length }) => length > 0))
  return JSON.stringify([counts, epochs.current, done, strategy, parameters.version, stage.rate, [...bits]])
}

const beginning = ({ stretches: [{ epoch, from }] }: Work): string => `${epoch} ${from}`

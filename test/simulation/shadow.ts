/**
 * A run as the journal alone has it: a fold of its own, from entry 0, over what the journal reads back, without a
 * checkpoint ever; and a count of its own of every example, of whichever stage.
 */
import type { Entry } from '../../coordinator/journal/journal.ts'
import { History, type StateData, type UpdateData } from '../../coordinator/run/history.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import type { Lease } from '../../shared/protocol.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { emptyDataset, SHARD_EXAMPLES } from './examples.ts'
import { taken } from './honest.ts'
import { must } from './violation.ts'

/** What no honest volunteer here ever returns, by far. */
export const NORM_MAX = 1e4

/** An update that was journalled. */
interface Journalled {
  readonly stage: number
  readonly lease: string
  readonly lossSum: number | null
  readonly examples: number
}

export class Shadow {
  readonly spec: RunSpec
  readonly history: History
  /** Every version's encoded bytes. */
  readonly versions: Uint8Array[]
  readonly updates: Journalled[] = []
  /** What was said of the loss, by where the work begins. */
  readonly losses = new Map<string, number | null>()
  /** The operator ended it. */
  stopped = false
  /** Examples that were taken, of all stages, and positions that were done, of this one. */
  examples = 0
  positions = 0
  /** Newest version that somebody was told of. */
  shown = 0
  comparedAt = -1
  /** Of the stage, by epoch: how often each example counted. */
  private counted = new Map<number, Uint8Array>()
  private readonly leases = new Set<string>()

  constructor({ data }: Entry) {
    const { spec } = data as { spec: RunSpec }
    this.spec = spec
    this.history = new History(spec, emptyDataset(spec.dataset))
    this.versions = [parametersOf(this.history)]
  }

  /** The journal has this entry; of an update, the lease that it answers. */
  append(entry: Entry, lease: Lease | undefined): void {
    const { history } = this
    if (entry.kind === 'update') this.count(entry, lease)
    if (entry.kind === 'state' && (entry.data as StateData).state === 'finished') this.stopped = true
    const { version } = history.parameters
    const { stage } = history
    const { trained, strategy } = stage
    const held = entry.kind === 'evaluated' && !strategy.quiescent
    history.fold(entry)
    let steps = history.parameters.version - version
    // Where a stage ends early, what its buffer held becomes a version that nobody can ask for.
    if (history.stage !== stage && held && steps === 2) {
      this.versions.push(new Uint8Array())
      steps--
    }
    must('V1', steps === 0 || steps === 1, `an entry made ${steps} versions`)
    if (steps === 1) this.versions.push(parametersOf(history))
    if (history.stage === stage) return
    const next = history.stage.index
    must('stages', next === stage.index + 1, `stage ${next} follows ${stage.index}`)
    must('stages', trained || stage.plan.gapChecks > 0, `${stage.plan.name} ended before it was trained`)
    must('stages', steps === 1, `stage ${next} begins with the version that the one before ended with`)
    this.positions = 0
    this.counted = new Map()
  }

  private count({ data, payload }: Entry, lease: Lease | undefined): void {
    const { history, spec } = this
    const { stage } = history
    const update = data as UpdateData
    if (lease === undefined) return must('J1', false, `lease ${update.lease} is journalled and was never granted`)
    must('L3', !this.leases.has(lease.id), `lease ${lease.id} is in the journal twice`)
    this.leases.add(lease.id)
    const { index, plan, strategy } = stage
    must('stages', lease.stage === index, `an update of stage ${lease.stage} is journalled in stage ${index}`)
    const staleness = history.parameters.version - update.version
    const { maxStaleness } = strategy
    // What was on its way when the run was ended changes nothing any more.
    const fresh = staleness <= maxStaleness || history.state === 'finished'
    must('S1', staleness >= 0 && fresh, `staleness ${staleness}, at most ${maxStaleness} is taken`)
    this.believed(update, lease, Math.sqrt(history.parameters.sumSquares(plan.codec.up, payload!)))
    const whole = plan.strategy.name !== 'downpour'
    const all = taken({ ...lease, seed: spec.seed }).length
    const right = whole ? update.examples === all : update.examples <= all
    must('E1', right, `lease ${lease.id} holds ${all} examples, and counts ${update.examples}`)
    this.mark(lease, whole ? Number.POSITIVE_INFINITY : update.examples)
    this.examples += update.examples
    const { lossSum, examples } = update
    this.updates.push({ stage: index, lease: lease.id, lossSum, examples })
    if (whole) {
      const [{ epoch, from }] = update.stretches
      this.losses.set(`${index}/${epoch}/${from}`, lossSum)
    }
  }

  private believed({ lossSum, examples, minibatches }: UpdateData, { reduce }: Lease, norm: number): void {
    const probes = this.history.strategy.probes === true
    if (lossSum === null) return must('T2', probes, 'a loss that is not finite is no answer here')
    const units = Math.max(1, reduce === 'sum' ? examples : minibatches)
    must('T2', norm <= NORM_MAX * units, `an update of norm ${norm} was accepted`)
  }

  /** The lease's first so many positions are done. */
  private mark({ segments }: Lease, positions: number): void {
    const { epochs, stage } = this.history
    const open = stage.plan.strategy.name === 'downpour' ? 2 : 1
    let left = positions
    for (const { shardIndex, epoch, from, to } of segments) {
      const ahead = epoch - epochs.current
      must('E3', ahead >= 0 && ahead < open, `epoch ${epoch} is not open, ${epochs.current} is`)
      const seen = this.counted.get(epoch) ?? new Uint8Array(epochs.examples)
      this.counted.set(epoch, seen)
      for (let i = from; i < to && left > 0; i++, left--) {
        const example = shardIndex * SHARD_EXAMPLES + i
        must('E1', ++seen[example] === 1, `example ${example} counts ${seen[example]} times in epoch ${epoch}`)
        this.positions++
      }
    }
  }

  /** Every example of what is complete by now was counted. */
  complete(current: number): void {
    for (const [epoch, seen] of this.counted) {
      if (epoch >= current) continue
      const all = seen.every((times) => times === 1)
      must('E1', all, `epoch ${epoch} is complete and lacks examples`)
      this.counted.delete(epoch)
    }
  }
}

function parametersOf({ stage, parameters }: History): Uint8Array {
  return encodeVector(codecs[stage.plan.codec.down], parameters.snapshot())
}
